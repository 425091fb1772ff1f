"""Measure from Python where a linear model stops depending on its training set.

Run it in any folder: python onset_from_python.py. It writes the run folder `onset-from-python`.
"""

from genonset import Sweep, run_sweep
from genonset.experiment import resolve
from genonset.store import Results, Store

OPTIONS = {
    "name": "onset-from-python",
    "replicates": 40,
    "n": [8, 16, 32, 64, 128, 256],
    "criteria": ["kernel_l2", "label_test", "overlap", "bures_wasserstein"],
    "n_original": 1000,
    "n_generated": 300,
    "source": {"kind": "gaussian", "dim": 8, "spectrum": {"kind": "power_law", "exponent": 1.0}},
    "model": {"kind": "linear_one_step", "noise": {"kind": "ornstein_uhlenbeck",
                                                   "noise_scale": 0.02}},
}  # fmt: skip


def main() -> None:
    sweep = resolve(Sweep.from_options(OPTIONS))
    with Store(sweep.name, sweep) as store:
        run_sweep(sweep, store)
    results = Results(sweep.name)
    for criterion in ("delta_held_out", "train_bias", "overlap", "bures_wasserstein"):
        print(f"{criterion:20} {results.onset(criterion).sentence()}")


if __name__ == "__main__":
    main()
