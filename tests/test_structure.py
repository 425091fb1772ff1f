"""The rooms and their order: a file imports only from files above it in the list."""

import ast
from pathlib import Path

import genonset

ORDER = [
    "errors", "tensors", "seeds", "noise", "sources", "arrays", "images", "tables", "datasets",
    "denoisers", "pretrained", "networks", "samplers", "estimates", "distances", "neighbors",
    "peers", "features", "views", "labels", "findings", "inputs", "overlap", "words", "verdict",
    "training", "equivalents", "one_step", "theory", "onset", "criteria", "published", "spec",
    "gallery", "experiment", "adaptive", "predictions", "store", "sweep", "figures", "report",
    "reviewers", "cli",
]  # fmt: skip
PACKAGE = Path(genonset.__file__).parent


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("genonset"):
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms & set(ORDER)


def test_every_file_is_a_room_of_the_list():
    files = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert files <= set(ORDER)


def test_imports_point_upwards_only():
    for path in PACKAGE.glob("*.py"):
        if path.stem == "__init__":
            continue
        below = {r for r in imported_rooms(path) if ORDER.index(r) >= ORDER.index(path.stem)}
        assert not below, f"{path.name} imports {below} from below"


def test_published_arithmetic_is_used_by_the_spec_alone():
    users = {p.stem for p in PACKAGE.glob("*.py") if "published" in imported_rooms(p)}
    assert users == {"spec"}
