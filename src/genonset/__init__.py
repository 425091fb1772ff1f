"""genonset: where a diffusion model stops memorizing its training set.

Names are loaded when first used, so that `import genonset` and `genonset --help` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genonset.findings import Verdict
    from genonset.onset import Onset, estimate_onset
    from genonset.report import write_report
    from genonset.spec import Sweep
    from genonset.sweep import run_sweep
    from genonset.training import Monitor, train
    from genonset.verdict import audit, audit_files, memorized_fraction

__version__ = "0.1.0"

_HOMES = {
    "Monitor": "training",
    "Onset": "onset",
    "estimate_onset": "onset",
    "Sweep": "spec",
    "run_sweep": "sweep",
    "Verdict": "findings",
    "audit": "verdict",
    "audit_files": "verdict",
    "memorized_fraction": "verdict",
    "train": "training",
    "write_report": "report",
}
_ROOMS = {
    "criteria",
    "datasets",
    "denoisers",
    "distances",
    "errors",
    "estimates",
    "features",
    "findings",
    "labels",
    "neighbors",
    "networks",
    "noise",
    "onset",
    "peers",
    "pretrained",
    "samplers",
    "seeds",
    "sources",
    "theory",
    "training",
    "verdict",
}

__all__ = [
    "Monitor",
    "Onset",
    "Sweep",
    "Verdict",
    "audit",
    "audit_files",
    "estimate_onset",
    "memorized_fraction",
    "run_sweep",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"genonset.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return import_module(f"genonset.{name}")
    raise AttributeError(f"module 'genonset' has no attribute {name!r}")
