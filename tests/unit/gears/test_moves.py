"""How a worker reaches the other shards of its cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from gears.applying import change as changes
from gears.worker import lanes, moves
from gears.worker.circles import Mark


def told(connection_class: type, *ports: int, **options: Any) -> Any:
    """Return a client that is told shards of these ports."""
    slots = [[number, number, [b"10.0.0.%d" % number, port, b"id"]] for number, port in enumerate(ports)]
    pool = SimpleNamespace(connection_class=connection_class, connection_kwargs=options)
    return SimpleNamespace(execute_command=lambda *_: slots, connection_pool=pool)


def test_who_came_by_a_socket_goes_to_the_plain_ports() -> None:
    found = list(moves.primaries(told(redis.UnixDomainSocketConnection, 7000, 7001, path="/s", password="p")))
    assert [address for address, _ in found] == ["10.0.0.0:7000", "10.0.0.1:7001"]
    for _, client in found:
        assert client.connection_pool.connection_class is redis.Connection
        assert client.connection_pool.connection_kwargs["password"] == "p"


def test_who_came_by_a_socket_is_told_where_there_is_tls_alone() -> None:
    with pytest.raises(redis.ConnectionError, match="TLS alone; start this worker with a rediss:// URL"):
        list(moves.primaries(told(redis.UnixDomainSocketConnection, 0, path="/s")))


def answering(monkeypatch: pytest.MonkeyPatch, failure: redis.RedisError) -> None:
    """Have every shard answer so."""

    def answer(*_: object) -> None:
        raise failure

    client: Any = SimpleNamespace(execute_command=answer)
    client.client = lambda: contextlib.nullcontext(client)
    monkeypatch.setattr(lanes, "connect", lambda url: contextlib.nullcontext(client))
    monkeypatch.setattr(moves, "_node", lambda *_: contextlib.nullcontext(client))


def test_who_may_not_have_a_key_captured_anew_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, redis.exceptions.NoPermissionError("no right to gearsync.backfill"))
    with caplog.at_level(logging.WARNING):
        moves.renew("redis://", b"person:1")
    [record] = caplog.records
    assert "b'person:1' ended while its slot moved" in record.getMessage()
    assert "gearsync verify --repair" in record.getMessage()


def test_a_key_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, redis.exceptions.MovedError("1 127.0.0.1:7000"))
    with pytest.raises(redis.ConnectionError, match="from shard to shard"):
        moves.renew("redis://", b"person:1")


def test_a_shard_that_can_not_answer_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, redis.exceptions.ClusterDownError("the cluster is down"))
    with pytest.raises(redis.exceptions.ClusterDownError):
        moves.renew("redis://", b"person:1")


def test_a_key_that_a_client_writes_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its write may be refused; then nothing else would bring what the key has."""
    client: Any = SimpleNamespace(execute_command=lambda *_: [moves.BEING_WRITTEN])
    monkeypatch.setattr(lanes, "connect", lambda url: contextlib.nullcontext(client))
    with pytest.raises(redis.RedisError, match="waits for SQL"):
        moves.renew("redis://", b"person:1")
    client.execute_command = lambda *_: [1]
    moves.renew("redis://", b"person:1")


class Waits:
    """A batch that waits for the keys of some marks, with a clock of its own and shards that answer so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *keys: bytes) -> None:
        self.now = 0.0
        self.asked: list[float] = []
        self.seconds_to_ask = 0.0
        self.waiting = moves.Waiting({}, {})
        self.not_there: list[str] = []
        marks: Any = [SimpleNamespace(key=key, node=b"1" * 40, op=changes.CAME) for key in keys]
        self.tokens = [moves.token("people", "t1", mark) for mark in marks]
        monkeypatch.setattr(moves, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(moves, "marks_waiting", self._ask)
        whose = moves.Whose("people", "t1", "own")
        self.handover = moves.Handover("redis://", whose, marks, self._look, self._pause)

    def _ask(self, *_: object) -> moves.Waiting:
        self.asked.append(self.now)
        self.now += self.seconds_to_ask
        return self.waiting

    def _look(self, tokens: Sequence[str]) -> Sequence[str]:
        return [each for each in tokens if each in self.not_there]

    def _pause(self, seconds: float, _: str) -> None:
        self.now += seconds

    def wait(self, seconds: float) -> None:
        """Wait for all that the batch still waits for."""
        until = self.now + seconds
        while self.now < until and self.handover.moves.taken:
            self.handover.wait(self.handover.moves.taken)


def test_asking_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With much that waits, lanes that wait for each other would else keep the workers from bringing it."""
    waits = Waits(monkeypatch, b"person:1")
    waits.seconds_to_ask = 2.0
    waits.waiting = moves.Waiting({"other": [Mark(False, waits.tokens[0], "1-0")]}, {"other": "a:1"})
    waits.wait(1000)
    assert waits.asked[0] < 2 * moves.ASK_SECONDS
    assert 5 < len(waits.asked) <= 1000 * moves.ASK_SHARE / 2 + 1


def test_what_no_shard_has_is_not_waited_for_and_all_of_it_is_found_out_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a promotion these may be the keys of whole slots."""
    waits = Waits(monkeypatch, *(b"person:%d" % number for number in range(100)))
    waits.seconds_to_ask = 2.0
    waits.wait(1000)
    assert waits.handover.moves.taken == ()
    assert len(waits.asked) == 2
    assert 2 * moves.ASK_SECONDS < waits.now < 4 * moves.ASK_SECONDS
    assert len(caplog.records) == 100


def test_the_same_key_twice_of_which_one_will_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MIGRATE that was tried again brings a key twice."""
    waits = Waits(monkeypatch, b"person:1", b"person:1")
    [token] = set(waits.tokens)
    waits.handover.wait([token])
    waits.now += 2 * moves.ASK_SECONDS
    waits.handover.wait([token])
    waits.now += 2 * moves.ASK_SECONDS
    waits.handover.wait([token])
    assert waits.handover.moves.taken == (token,)


def test_a_lane_leaves_a_circle_that_is_of_its_making(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen twice: between the looks at two shards, lanes go on."""
    waits = Waits(monkeypatch, b"person:1")
    [token] = waits.tokens
    own = [Mark(True, token, "1000-0"), Mark(False, "back", "2000-0")]
    other = [Mark(True, "back", "2001-0"), Mark(False, token, "3000-0")]
    waits.waiting = moves.Waiting({"own": own, "other": other}, {"own": "a:1", "other": "b:1"})
    waits.not_there = [token, "back"]
    waits.wait(1.5 * moves.ASK_SECONDS)
    assert waits.handover.moves.taken
    waits.wait(100)
    assert waits.handover.moves.taken == ()
    assert len(waits.asked) == 2
    [record] = caplog.records
    assert "own: lanes wait for each other in a circle, in which key b'person:1' waits" in record.getMessage()


def test_a_lane_in_a_circle_that_another_has_to_leave_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits(monkeypatch, b"person:1")
    [token] = waits.tokens
    own = [Mark(True, token, "2001-0"), Mark(False, "back", "3000-0")]
    other = [Mark(True, "back", "1000-0"), Mark(False, token, "2000-0")]
    waits.waiting = moves.Waiting({"own": own, "other": other}, {"own": "a:1", "other": "b:1"})
    waits.not_there = [token, "back"]
    waits.wait(1000)
    assert waits.handover.moves.taken


def test_what_has_come_meanwhile_makes_no_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits(monkeypatch, b"person:1")
    [token] = waits.tokens
    own = [Mark(True, token, "1000-0"), Mark(False, "back", "2000-0")]
    other = [Mark(True, "back", "2001-0"), Mark(False, token, "3000-0")]
    waits.waiting = moves.Waiting({"own": own, "other": other}, {"own": "a:1", "other": "b:1"})
    waits.not_there = [token]
    waits.wait(1000)
    assert waits.handover.moves.taken
