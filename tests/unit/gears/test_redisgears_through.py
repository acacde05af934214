"""Write-through on RedisGears, without it: whose writes a record is about, and ids after another's."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gears.declaring import config

FUNCTIONS = """
[targets.first]
url = "env:DB_URL"

[[functions]]
kind = "write-through"
keys = "person:{id}"
table = "persons"
target = "first"
columns = ["name"]
"""
EPOCH = 3


class Redis:
    """As much of a server as write-through asks, and what it was told to do."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.role = "master"
        self.done: list[Any] = []

    def execute(self, name: str, *words: Any) -> Any:
        if name == "ROLE":
            return [self.role]
        if name == "GET":
            return self.texts.get(words[0])
        if name == "SET":
            self.texts[words[0]] = words[1]
        elif name == "INFO":
            return "maxmemory:0\nused_memory:0\nmaxmemory_policy:noeviction"
        else:
            self.done.append((name, *words))
        return {"TYPE": "none", "HMGET": [None], "EXISTS": 0, "HSET": 1}.get(name)

    def call_next(self, *words: Any) -> int:
        self.done.append(("own", *words))
        return 1


class Nothing:
    """Parts of a runtime that have nothing to say."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Shard(Nothing):
    """One whose epoch tests set."""

    epoch = EPOCH
    who = "source.3-1"

    def own(self, prefix: str) -> str:
        return f"{prefix}{{0}}:source"


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A server as the code inside RedisGears sees it."""
    server = Redis()
    stub: Any = types.ModuleType("redisgears")
    stub.executeCommand = server.execute
    stub.GearsError = type("GearsError", (Exception,), {})
    stub.isInAtomicBlock = lambda: True
    stub.isAsyncAllow = lambda: True
    for name in ("gearsFutureCtx", "getGearsSession"):
        setattr(stub, name, lambda: types.SimpleNamespace(continueRun=lambda _: None))
    for name in ("setGearsSession", "overrideReply", "log", "registerGearsThread"):
        setattr(stub, name, lambda *_, **__: None)
    stub.callNext = server.call_next
    monkeypatch.setitem(sys.modules, "redisgears", stub)
    before = set(sys.modules)
    yield server
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def through(redis: Redis, tmp_path: Path) -> Any:
    """What is tested, with nothing before it in SQL."""
    file = tmp_path / "gearsync.toml"
    file.write_text(FUNCTIONS, encoding="utf-8")
    module = importlib.import_module("gears.redisgears.through")
    pausing = types.SimpleNamespace(reason=lambda _: "")
    made = module.Through(config.load(str(file)), Shard(), Nothing(), Nothing(), pausing)
    made.enter()
    made.begin(None)
    return made


def _sent(through: Any) -> Any:
    through.on_write(["HSET", "person:1", "name", "Ada"])
    taken, _ = through.take()
    (write,) = taken
    return write


def test_a_record_of_another_primary_with_the_same_id_is_not_the_clients(through: Any, redis: Redis) -> None:
    write = _sent(through)
    mine = {write.id: write}
    ms, _, seq = write.id.partition("-")
    record = b"0 *4\r\n$4\r\nHSET\r\n$8\r\nperson:2\r\n$4\r\nname\r\n$3\r\nEve\r\n"
    through.redo((EPOCH - 1, int(ms), int(seq)), [(write.id, record, "")], mine)
    assert list(mine) == [write.id]
    assert redis.done[-1] == ("HSET", b"person:2", b"name", b"Eve")
    through.redo((EPOCH, int(ms), int(seq)), [(write.id, record, "")], mine)
    assert not mine
    assert redis.done[-1] == ("own", "person:1", "name", "Ada")


def test_ids_are_above_those_that_sql_has_whatever_the_clock_says(through: Any) -> None:
    ahead = 1 << 50
    through.begin((EPOCH, ahead, 4))
    assert _sent(through).id == f"{ahead}-5"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0x10", 16),
        ("-0X.8p1", -1),
        ("1e00001", 10),
        ("0e99999999999", 0),
        ("+5.", 5),
        ("1e4000", 10**4000),
        ("1e4933", None),
        ("-1e99999999999", None),
        ("1e-4940", "small"),
        ("1e-5000", None),
        ("0x", None),
        ("0x1p", None),
        ("1" * 5120, None),
        ("inf", None),
    ],
)
def test_texts_are_the_floats_that_the_server_takes_them_for(redis: Redis, text: str, number: Any) -> None:
    """What it would take for a float, and this would not, would come to SQL behind its client's reply."""
    effects = importlib.import_module("gears.redisgears.effects")
    found = effects._float(text.encode())
    if number == "small":
        assert 0 < found < 1
    else:
        # A long double has 18 digits.
        assert found == number or abs(found / number - 1) < 1e-18
    largest = b"1" + b"0" * 4932
    assert len(effects._as_text(effects._float(largest))) == len(largest)


@pytest.mark.parametrize("change", ["replica", "epoch", "forgotten"])
def test_nothing_is_settled_where_redis_is_another_by_now(change: str, through: Any, redis: Redis) -> None:
    changed = sys.modules["gears.redisgears.standing"].Changed
    write = _sent(through)
    if change == "replica":
        redis.role = "slave"
    elif change == "epoch":
        through._shard.epoch = EPOCH + 1
    else:
        (stream,) = redis.texts
        redis.texts[stream] = f"{EPOCH - 1} 1 0"
    done = len(redis.done)
    with pytest.raises(changed):
        through.settle([write], {}, (EPOCH, 5, 0))
    with pytest.raises(changed):
        through.take()
    assert len(redis.done) == done


def test_a_position_that_somebody_deletes_under_way_is_written_anew(through: Any, redis: Redis) -> None:
    """As an eviction does, or an undeploy: what SQL has committed is done all the same."""
    write = _sent(through)
    redis.texts.clear()
    through.settle([write], {}, (EPOCH, 5, 0))
    assert redis.done[-1] == ("own", "person:1", "name", "Ada")
    assert list(redis.texts.values()) == [f"{EPOCH} 5 0"]
