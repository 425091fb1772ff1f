"""How a refusal is read in tests: as its user would."""

from pathlib import Path

import pytest

from genonset.errors import DataError


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with what is in it."""
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else b""
        for file in folder.rglob("*")
    }


def refusal(folder: Path, call, *arguments, **options) -> str:
    """What is said when a call is refused; checks that it is readable and left no trace."""
    before = tree(folder)
    with pytest.raises(DataError) as refused:
        call(*arguments, **options)
    said = str(refused.value)
    assert tree(folder) == before
    assert len(said.splitlines()) <= 20
    assert max(map(len, said.splitlines())) < 600
    assert "\x1b" not in said
    return said
