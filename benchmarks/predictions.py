"""What the predictions of a report cost: CPU seconds a setting, curves and onsets of all criteria.

    python benchmarks/predictions.py

Six settings of `onset-dimensions`, 17 sizes each; the first comes twice, to leave imports out.
"""

import time
from importlib import resources

import numpy as np

from genonset.experiment import resolve
from genonset.predictions import Predictions, predictions
from genonset.spec import Sweep

SETTINGS = [(8, 0), (8, 0), (8, 2), (32, 2), (64, 1), (256, 2), (256, 4)]
"""Dimension, and which of the spectra of the spec."""


def work(found: Predictions, sizes: list[int]) -> None:
    """Everything that a report asks for, with poles of the gap that are as good as any."""
    poles = 3 / np.sqrt(sizes), np.zeros(len(sizes))
    for name in found.names:
        found.values(name, sizes)
        found.onset(name, sizes, poles)


def main() -> None:
    spec = resources.files("genonset") / "experiments" / "onset-dimensions.toml"
    with resources.as_file(spec) as path:
        sweep = resolve(Sweep.from_toml(path))
    for dim, which in SETTINGS:
        spectrum = sweep.axes["source.spectrum"][which]
        at = sweep.measurement({"source.dim": dim, "source.spectrum": spectrum})
        found = predictions(at)
        assert found is not None
        fresh = Predictions(
            names=found.names, measurement=at, eigenvalues=found.eigenvalues, model=found.model
        )
        start = time.process_time()
        work(fresh, list(sweep.n))
        print(f"d = {dim:3}, {dict(spectrum)}: {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
