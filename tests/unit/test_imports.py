"""Who imports whom (docs/design.md, "Rooms"): one way only, also where it is for types alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gears", "connectors", "deploy")

Graph = dict[str, set[str]]

#: From the highest room to the lowest: none imports from one above it. What is side by side is strangers.
LAYERS = (
    ("deploy.commands",),
    ("deploy",),
    ("gears.worker", "gears.redisgears", "gears.module"),
    ("gears.applying",),
    ("gears.declaring",),
    ("connectors",),
)
#: What knows nothing of Redis but what it is told.
WITHOUT_REDIS = ("connectors", "gears.declaring", "gears.applying")


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    """The file of each module that is installed, by the module's name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.fixture(scope="module")
def imports(files: dict[str, Path]) -> Graph:
    """What each module imports, anywhere in it: our own modules, and others by their full names."""
    return {name: set(imported(ast.parse(path.read_text("utf-8")), files)) for name, path in files.items()}


def imported(tree: ast.Module, files: Mapping[str, Path]) -> Iterable[str]:
    """Yield the names of the modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports are absolute"
            for each in node.names:
                full = f"{node.module}.{each.name}"
                yield full if full in files else node.module


def test_no_module_imports_itself_by_way_of_others(imports: Graph) -> None:
    assert len(imports) > 300
    assert cycles(imports) == []


def test_rooms_that_stand_side_by_side_do_not_import_from_each_other_both_ways(
    files: dict[str, Path], imports: Graph
) -> None:
    def room(name: str) -> str:
        return ".".join(files[name].relative_to(ROOT).parent.parts)

    rooms: Graph = {room(name): set() for name in files}
    for name, others in imports.items():
        for other in others & files.keys():
            one, another = room(name), room(other)
            # A room and what is in it are one: what both need may be in either.
            if not one.startswith(another) and not another.startswith(one):
                rooms[one].add(another)
    assert cycles(rooms) == []


def test_no_room_imports_from_a_higher_one_or_from_a_neighbour(imports: Graph) -> None:
    wrong = []
    for name, others in imports.items():
        at = layer_of(name)
        for other in others:
            of_other = layer_of(other)
            if at and of_other and (of_other[0] < at[0] or (of_other[0] == at[0] and of_other[1] != at[1])):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "; ".join(sorted(wrong))


def test_lower_rooms_know_nothing_of_redis(imports: Graph) -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in others
        if name.startswith(WITHOUT_REDIS) and other.partition(".")[0] in ("redis", "redisgears")
    ]
    assert not wrong, "; ".join(sorted(wrong))


def layer_of(name: str) -> tuple[int, str] | None:
    """Return the layer of a module, counted from above, and its room there; None: it has no layer."""
    for number, rooms in enumerate(LAYERS):
        for room in rooms:
            if name == room or name.startswith(room + "."):
                return number, room
    return None


def cycles(graph: Graph) -> list[list[str]]:
    """Return the sets of names that lead to each other, sorted (Tarjan's strongly connected components)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        open_.append(name)
        for other in graph[name] & graph.keys() - {name}:
            if other not in numbers:
                visit(other)
            if other in open_:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == numbers[name]:
            at = open_.index(name)
            found.append(sorted(open_[at:]))
            del open_[at:]

    for name in sorted(graph):
        if name not in numbers:
            visit(name)
    return [each for each in found if len(each) > 1]


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}, [["a", "b", "c"]]),
        ({"a": {"b", "json"}, "b": {"c"}, "c": set()}, []),
    ],
)
def test_a_cycle_is_found(broken: Graph, found: list[list[str]]) -> None:
    assert cycles(broken) == found
