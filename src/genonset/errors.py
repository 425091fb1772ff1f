"""Every exception and warning this package raises, and when.

All of them carry one message for the person who reads it: what is wrong with the value that was
seen, what is accepted, and what to do. The command line prints that message and exits with code 2.
The last functions put paths, exceptions and lists into such messages.
"""

from collections.abc import Sequence
from pathlib import Path


class GenonsetError(Exception):
    """Root of every exception raised on purpose by this package."""


class ConfigError(GenonsetError, ValueError):
    """An option or a spec is unknown, ill-typed or inconsistent."""


class DataError(GenonsetError, ValueError):
    """Data cannot be read, or are not what the computation accepts."""


class StoreError(GenonsetError, RuntimeError):
    """A run folder or a results store cannot be used as asked."""


class CheckpointError(StoreError):
    """A checkpoint is damaged, of another run, or beyond the budget."""


class DivergedError(GenonsetError, ArithmeticError):
    """A model or its samples stopped being finite numbers."""


class RegimeWarning(UserWarning):
    """A prediction is evaluated where it is rough; the message says how to tell and what to do."""


def quote(path: Path) -> str:
    """A path on one line: control characters in file names cannot reach the terminal."""
    return repr(str(path))


def brief(error: Exception) -> str:
    """The first line of what an exception says."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0] if len(said[0]) <= 160 else f"{said[0][:157]}..."


def listed(lines: Sequence[str], separator: str = "\n", most: int = 12) -> str:
    """The first lines, and how many more there are."""
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return separator.join([*lines[:most], *more])
