"""The waiting of a batch for keys that came from other shards, with a clock and shards of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from gears.applying import change as changes
from gears.worker.moving import asking, handover
from gears.worker.moving.asking import Answer, Asker
from gears.worker.moving.circles import Mark
from gears.worker.moving.moves import Waiting, token
from tests.integration.deploying import eventually


class Waits:
    """A batch that waits for the keys of some marks, with a clock of its own and shards that answer so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *keys: bytes) -> None:
        self.now = 0.0
        self.asked: list[float] = []
        self.waiting: Waiting | None = Waiting({}, {})
        self.not_there: list[str] = []
        self.said: list[str] = []
        self.doubts = False
        marks: Any = [SimpleNamespace(key=key, node=b"1" * 40, op=changes.CAME) for key in keys]
        self.tokens = [token("people", "t1", mark) for mark in marks]
        monkeypatch.setattr(handover, "time", SimpleNamespace(monotonic=lambda: self.now))
        whose = handover.Whose("people", "t1", "own")
        asker: Any = SimpleNamespace(since=self._ask)
        self.handover = handover.Handover(whose, marks, asker, self._look, self._pause)

    def _ask(self, since: float, doubts: bool) -> Answer | None:
        """Answer at once, or, unless the lane doubts, at the second question."""
        assert since <= self.now
        self.asked.append(self.now)
        self.doubts = doubts
        if len(self.asked) % 2 and not doubts:
            return None
        return Answer(self.now, self.now, self.waiting, "" if self.waiting else "not there")

    def _look(self, tokens: Sequence[str]) -> Sequence[str]:
        return [each for each in tokens if each in self.not_there]

    def _pause(self, seconds: float, why: str) -> None:
        self.now += seconds
        self.said.append(why)

    def stand_in_circle(self, came: str, back: str, later: str, last: str) -> None:
        """The batch's one key came at ``came`` and goes at ``back``; another lane waits for that at ``later``
        and gives the key at ``last``.
        """
        [key] = self.tokens
        own = [Mark(True, key, came), Mark(False, "back", back)]
        other = [Mark(True, "back", later), Mark(False, key, last)]
        self.waiting = Waiting({"own": own, "other": other}, {"own": "a:1", "other": "b:1"})
        self.not_there = [key, "back"]

    def wait(self, seconds: float) -> None:
        """Wait for all that the batch still waits for."""
        until = self.now + seconds
        while self.now < until and self.handover.moves.taken:
            self.handover.wait(self.handover.moves.taken)


def test_a_short_wait_asks_nobody_and_a_long_one_says_where_the_changes_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = Waits(monkeypatch, b"person:1")
    waits.waiting = Waiting({"other": [Mark(False, waits.tokens[0], "1-0")]}, {"other": "a:1"})
    waits.wait(handover.ASK_SECONDS)
    assert waits.asked == []
    assert not waits.said[0]
    waits.wait(handover.ASK_SECONDS)
    assert "key b'person:1' came from another shard" in waits.said[-1]
    assert waits.said[-1].endswith("they wait in other of a:1")
    waits.waiting = None
    waits.wait(handover.ASK_SECONDS)
    assert waits.said[-1].endswith("a shard can't be asked (not there)")
    assert waits.handover.moves.taken


def test_what_no_shard_has_is_not_waited_for_and_all_of_it_is_found_out_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a promotion these may be the keys of whole slots."""
    waits = Waits(monkeypatch, *(b"person:%d" % number for number in range(100)))
    waits.wait(1000)
    assert waits.handover.moves.taken == ()
    assert 2 * handover.ASK_SECONDS < waits.now < 4 * handover.ASK_SECONDS
    assert len(caplog.records) == 100


@pytest.mark.parametrize(("is_given", "seconds"), [(True, 60.0), (False, handover.OTHER_LANES_SECONDS)])
def test_marks_of_a_slot_in_lanes_of_another_number_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, is_given: bool, seconds: float
) -> None:
    """Not for ever: they may be of a later move, behind what this lane has yet to give."""
    of_move = (b"gearsync:slot:7:opened", b"1" * 40)
    waits = Waits(monkeypatch, b"gearsync:slot:7:opened:0.2", b"person:1")
    waits.waiting = Waiting({}, {}, frozenset([of_move]))
    waits.wait(60.0)
    assert list(waits.handover.moves.taken) == waits.tokens[:1]
    if is_given:
        waits.waiting = Waiting({}, {})
    waits.wait(1000.0)
    assert waits.handover.moves.taken == ()
    assert seconds <= waits.now < seconds + 4 * handover.ASK_SECONDS


def test_the_same_key_twice_of_which_one_will_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MIGRATE that was tried again brings a key twice."""
    waits = Waits(monkeypatch, b"person:1", b"person:1")
    [key] = set(waits.tokens)
    while len(waits.asked) < 3:
        waits.handover.wait([key])
    assert waits.handover.moves.taken == (key,)


def test_a_lane_leaves_a_circle_that_is_of_its_making(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen twice: between the looks at two shards, lanes go on."""
    waits = Waits(monkeypatch, b"person:1")
    waits.stand_in_circle("1000-0", "2000-0", "2001-0", "3000-0")
    waits.wait(1.5 * handover.ASK_SECONDS)
    assert waits.handover.moves.taken
    waits.wait(100)
    assert waits.handover.moves.taken == ()
    assert waits.doubts, "the second look would have to wait until there is time for it"
    [record] = caplog.records
    assert "own: lanes wait for each other in a circle, in which key b'person:1' waits" in record.getMessage()


def test_a_lane_in_a_circle_that_another_has_to_leave_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits(monkeypatch, b"person:1")
    waits.stand_in_circle("2001-0", "3000-0", "1000-0", "2000-0")
    waits.wait(1000)
    assert waits.handover.moves.taken
    assert not waits.doubts


def test_what_has_come_meanwhile_makes_no_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits(monkeypatch, b"person:1")
    waits.stand_in_circle("1000-0", "2000-0", "2001-0", "3000-0")
    waits.not_there.remove("back")
    waits.wait(1000)
    assert waits.handover.moves.taken


class Shards:
    """Shards that answer when they are let."""

    def __init__(self, *answers: Waiting | redis.RedisError) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.let = threading.Semaphore(0)

    def __call__(self) -> Waiting:
        self.asked += 1
        self.let.acquire()
        answer = self.answers.pop(0)
        if isinstance(answer, redis.RedisError):
            raise answer
        return answer


def test_lanes_of_one_worker_share_a_question_and_are_not_held_up() -> None:
    shards = Shards(Waiting({}, {}))
    asker = Asker(shards)
    assert [asker.since(0.0, doubts=False) for _ in range(3)] == [None] * 3
    shards.let.release()
    eventually(lambda: asker.since(0.0, doubts=False) is not None)
    answer = asker.since(0.0, doubts=True)
    assert answer is not None and answer.waiting == Waiting({}, {})
    assert shards.asked == 1


def test_who_needs_a_later_answer_has_them_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(Waiting({}, {}), redis.RedisError("away"), Waiting({}, {}))
    shards.let.release(3)
    asker = Asker(shards)
    assert asker.since(0.0, doubts=True) is None
    eventually(lambda: asker.since(0.0, doubts=True) is not None)
    first = asker.since(0.0, doubts=True)
    assert first is not None
    assert asker.since(first.ended, doubts=True) is None
    eventually(lambda: asker.since(first.ended, doubts=True) is not None)
    second = asker.since(first.ended, doubts=True)
    assert second is not None and (second.waiting, second.error) == (None, "away")


def test_asking_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With much that waits, lanes that wait for each other would else keep the workers from bringing it."""
    now = 100.0
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: now))
    asker = Asker(Shards())
    asker._answer = Answer(now, now + 2.0, Waiting({}, {}))
    now += 2.0 + 2.0 / asking.ASK_SHARE - 0.1
    asker.since(now, doubts=False)
    assert asker._thread is None
    now += 0.2
    asker.since(now, doubts=False)
    assert asker._thread is not None
