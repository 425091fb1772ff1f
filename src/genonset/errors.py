"""Every exception and warning this package raises, and when.

All of them carry one message for the person who reads it: what is wrong with the value that was
seen, what is accepted, and what to do. The command line prints that message and exits with code 2.
"""


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
