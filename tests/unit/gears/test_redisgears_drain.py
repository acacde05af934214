"""How a lane is read on RedisGears: Redis' process has each page in its memory several times."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import pytest


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that reads lanes, as RedisGears would import it."""
    stub: Any = types.ModuleType("redisgears")
    for name in ("executeCommand", "gearsFutureCtx", "overrideReply"):
        setattr(stub, name, None)
    monkeypatch.setitem(sys.modules, "redisgears", stub)
    before = set(sys.modules)
    yield importlib.import_module("gears.redisgears.drain")
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("size", [10, 100_000, 20_000_000])
def test_a_page_is_small_however_large_its_values_are(
    size: int, drain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "x" * size
    lane = [[f"1-{at}", ["label", value]] for at in range(1200)]
    read: list[int] = []

    def execute(name: str, stream: str, start: str, last: str, _: str, count: int) -> list[Any]:
        at = int(start.partition("-")[2]) + start.startswith("(")
        read.append(len(lane[at : at + count]))
        return lane[at : at + count]

    monkeypatch.setattr(drain, "execute", execute)
    pages = list(drain.Drain({}, "", "first", 1000, None, None)._pages("lane", "1-0", "1-1199"))
    assert [entry for page in pages for entry in page] == lane
    most = max(1, drain.PAGE_BYTES // size)
    assert max(read) <= max(drain.FIRST, min(drain.CHUNK, most))
    assert max(len(page) for page in pages[1:]) <= 2 * most
    if size == 10:
        assert len(pages) == 2 and len(read) == 4
