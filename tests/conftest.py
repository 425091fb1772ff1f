"""Tests run with one torch thread, and check shape annotations of the tensor rooms at run time."""

import torch
from jaxtyping import install_import_hook

ROOMS = ("noise", "sources", "datasets", "denoisers", "samplers", "distances", "neighbors",
         "peers", "features", "verdict", "published", "criteria", "experiment")  # fmt: skip

torch.set_num_threads(1)
install_import_hook([f"genonset.{room}" for room in ROOMS], "typechecker.check")
