"""Which folder of the module (C) includes which (docs/design.md, "The module's folders")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_imports import Graph

MODULE = Path(__file__).parents[2] / "gears" / "module"

#: From the lowest folders to the highest: a folder includes from those below it, never from one beside it.
#: The API, the shard and the listeners, which all of them share, stand beside main.c ("main").
LAYERS = (
    {"api"},
    {"texts"},
    {"shard"},
    {"listeners"},
    {"clients", "changes", "cluster"},
    {"lanes", "workers"},
    {"pauses"},
    {"registry"},
    {"resharding"},
    {"capture"},
    {"waits"},
    {"rows"},
    {"reads"},
    {"crashes", "through"},
    {"main"},
)


def sources() -> Iterator[tuple[Path, set[Path]]]:
    """Yield each C file and header with the headers of the module that it includes."""
    for path in sorted(MODULE.rglob("*.[ch]")):
        found = set()
        for name in re.findall(r'^#include "(.+)"', path.read_text("utf-8"), re.MULTILINE):
            beside = path.parent / name
            found.add(beside if beside.exists() else MODULE / name)
        assert all(each.exists() for each in found), path
        yield path, found


def folder(path: Path) -> str:
    """Return the name of the folder in ``LAYERS`` that a file is in."""
    if path.parent == MODULE:
        return path.stem if path.name in ("listeners.h", "shard.h", "shard.c", "api.h", "api.c") else "main"
    return path.parent.name


def folders() -> Graph:
    """Return which folder includes from which other one."""
    graph: Graph = {name: set() for layer in LAYERS for name in layer}
    for path, headers in sources():
        graph[folder(path)] |= {folder(each) for each in headers} - {folder(path)}
    return graph


def level(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


def declared(header: Path) -> set[str]:
    """Return the names that a header has for those who include it."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text("utf-8"), flags=re.DOTALL)
    functions, macros = re.findall(r"(\w+)\)?\(", text), re.findall(r"^#define (\w+) ", text, re.MULTILINE)
    others = re.findall(r"(?:\}|extern \w+) (\w+);|\b([A-Z_]{4,})\b", text)
    return {*functions, *macros, *(name for each in others for name in each if name)}


def test_a_folder_includes_from_lower_ones_only() -> None:
    graph = folders()
    wrong = [
        f"{name} includes from {other}"
        for name, others in graph.items()
        for other in others
        if level(other) >= level(name)
    ]
    assert wrong == []


def test_what_is_only_for_the_files_of_a_folder_is_included_by_them_alone() -> None:
    headers = {path for path, _ in sources() if path.suffix == ".h"}
    private = {path for path in headers if path.read_text("utf-8").startswith("/* Only for ")}
    assert private
    for path, included in sources():
        assert not [each for each in included & private if each.parent != path.parent], path


def test_a_file_includes_only_what_it_uses() -> None:
    for path, headers in sources():
        words = set(re.findall(r"\w+", path.read_text("utf-8")))
        needless = {each.name for each in headers if not declared(each) & words}
        assert path.suffix == ".h" or not needless, f"{path}: {needless}"
