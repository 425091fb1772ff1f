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


def printable(name: str) -> str:
    """A file name that can be shown and written anywhere, one for each name.

    Bytes that are not UTF-8 become `\\xff`, what cannot be seen and the backslash itself escapes.

    >>> print(printable("é\\udcff\\n"))
    é\\xff\\n
    """
    return "".join(map(_shown, name))


def _shown(character: str) -> str:
    code = ord(character)
    if character.isprintable() and character != "\\":
        return character
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return character.encode("unicode_escape").decode()
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def brief(error: Exception) -> str:
    """The first line of what an exception says."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0] if len(said[0]) <= 160 else f"{said[0][:157]}..."


def listed(lines: Sequence[str], separator: str = "\n", most: int = 12) -> str:
    """The first lines, and how many more there are."""
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return separator.join([*lines[:most], *more])
