"""Tests run with one torch thread, and with every shape annotation checked at run time."""

import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
install_import_hook("genonset", "typechecker.check")
