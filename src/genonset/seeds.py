"""Independent random generators, derived from an experiment seed and the names of a draw.

A generator depends on what is drawn and for whom, never on when or where: the same names give the
same numbers on any machine, in any order, with any number of workers.

>>> draw = lambda *names: torch.randn(2, generator=generator(0, *names)).tolist()
>>> draw("training", 3) == draw("training", 3)
True
>>> draw("training", 3) == draw("training", 4)
False
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_global_generator = threading.RLock()


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed from an experiment seed and the names of a draw."""
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator that belongs to one named draw of one experiment."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextmanager
def global_draws(seed: int) -> Iterator[None]:
    """Seed the global CPU generator for code that draws from it, such as a network's first weights
    and its dropout; afterwards it is as it was. One thread at a time.
    """
    with _global_generator, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
