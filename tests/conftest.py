"""Tests run with one torch thread and the same examples every time, and check shape annotations
of the tensor rooms at run time."""

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

ROOMS = ("noise", "sources", "datasets", "denoisers", "pretrained", "networks", "samplers",
         "distances", "neighbors", "peers", "features", "views", "verdict", "training",
         "published", "criteria", "gallery",
         "experiment", "reviewers")  # fmt: skip

torch.set_num_threads(1)
settings.register_profile("same examples", derandomize=True, deadline=None)
settings.load_profile("same examples")
install_import_hook([f"genonset.{room}" for room in ROOMS], "typechecker.check")
