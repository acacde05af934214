"""What a dead letter holds, and under which id it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from gears.applying import deadletters
from gears.applying.change import Change, Malformed
from gears.applying.commands import Commands
from gears.applying.deadletters import Fault, Letter

AGE = Fault("people", "persons", "age", "column age: too large")
NAME = Fault("people", "persons", "name", "column name: too long")
OTHER = Fault("archive", "archived", "", "no such place")


def change(entry_id: str = "5-1", **image: bytes) -> Change:
    return change_of(entry_id, {name.encode(): value for name, value in image.items()})


def change_of(entry_id: str, image: dict[bytes, bytes]) -> Change:
    return Change(entry_id.encode(), b"person:1", b"u1f", tuple(image), list(image.values()))


def test_a_letter_holds_all_of_its_change() -> None:
    letter = deadletters.of_change(change(name=b"Ada", age=b"99999999999"), [AGE])
    fields = dict(letter.fields)
    assert int(fields.pop("at")) > 1_600_000_000_000
    assert json.loads(fields.pop("image")) == {"name": "Ada", "age": "99999999999"}
    assert fields == {
        "key": b"person:1",
        "op": b"u",
        "epoch": b"31",
        "reason": b"column age: too large",
        "functions": b'["people"]',
        "table": b"persons",
        "column": b"age",
        "change": b"5-1",
    }
    assert letter.id == "5-1"
    assert letter.functions == frozenset({"people"})


def test_all_that_is_wrong_is_in_one_letter_once() -> None:
    fields = deadletters.of_change(change(), [AGE, NAME, AGE, OTHER]).fields
    assert fields["reason"] == b"column age: too large; column name: too long; no such place"
    assert json.loads(fields["functions"]) == ["people", "archive"]
    assert (fields["table"], fields["column"]) == (b"persons, archived", b"age, name")


@pytest.mark.parametrize(
    ("value", "shown"), [(b"caf\xc3\xa9", "café"), (b"\xff\x00", {"base64": "/wA="}), (b"", "")]
)
def test_values_that_are_not_utf8_are_base64(value: bytes, shown: Any) -> None:
    assert deadletters.readable(value) == shown
    assert json.loads(deadletters.of_change(change(note=value), [AGE]).fields["image"]) == {"note": shown}


def test_names_that_are_not_utf8_stay_apart() -> None:
    image = {b"n\xff": b"1", b"n\xfe": b"2"}
    found = json.loads(deadletters.of_change(change_of("5-1", image), [AGE]).fields["image"])
    assert {name.encode("utf-8", "surrogateescape"): value.encode() for name, value in found.items()} == image


@pytest.mark.parametrize(
    ("pairs", "key"), [([b"k", b"person:1", b"x"], b"person:1"), ([b"k"], b""), ([], b"")]
)
def test_an_entry_that_is_no_change_keeps_its_pairs(pairs: list[bytes], key: bytes) -> None:
    letter = deadletters.of_malformed(Malformed(b"7-0", pairs, "no operation"))
    assert letter.fields["key"] == key
    assert json.loads(letter.fields["image"]) == {"pairs": [each.decode() for each in pairs]}
    assert (letter.fields["reason"], letter.functions) == (b"no operation", frozenset())


class Stream:
    """One stream, as far as letters need it; entries of ids that do not grow are refused, as Redis does."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], list[Any]] = {}
        self.last = (0, 0)
        #: None: as before Redis 7.0, which does not tell.
        self.deleted: tuple[int, int] | None = (0, 0)
        self.most = 1 << 28

    def most_bytes(self) -> int:
        return self.most

    def call(self, name: str, *arguments: Any) -> Any:
        if name == "EXISTS":
            return int(self.last > (0, 0))
        if name == "XINFO":
            described = [b"length", len(self.entries), b"last-generated-id", b"%d-%d" % self.last]
            return described + ([b"max-deleted-entry-id", b"%d-%d" % self.deleted] if self.deleted else [])
        assert name == "XRANGE"
        text = str(arguments[1])
        start, is_open = _id(text.lstrip("(")), text.startswith("(")
        found = sorted(each for each in self.entries if (each > start if is_open else each >= start))
        return [(b"%d-%d" % each, self.entries[each]) for each in found[: int(arguments[4])]]

    def transaction(self, commands: Sequence[Sequence[Any]]) -> None:
        sent = sum(len(word) for words in commands for word in words if isinstance(word, bytes))
        assert sent <= max(self.most, deadletters.SURE_BYTES), "the server closes the connection"
        for name, _, entry_id, *pairs in commands:
            if name == "XADD":
                assert _id(entry_id) > self.last, "ids only grow"
                self.last = _id(entry_id)
                encoded = [each if isinstance(each, bytes) else each.encode() for each in pairs]
                self.entries[self.last] = encoded
            else:
                assert name == "XDEL"
                self.delete(entry_id.decode())

    def delete(self, entry_id: str) -> None:
        del self.entries[_id(entry_id)]
        if self.deleted is not None:
            self.deleted = max(self.deleted, _id(entry_id))

    def store(self, *letters: Letter) -> int:
        return deadletters.store(cast("Commands", self), "dead", letters).added

    def entries_of(self, *letters: Letter) -> list[str]:
        return deadletters.store(cast("Commands", self), "dead", letters).entries

    def functions(self) -> dict[tuple[int, int], list[str]]:
        found = {}
        for entry_id, pairs in self.entries.items():
            fields = dict(zip(pairs[::2], pairs[1::2]))
            found[entry_id] = json.loads(fields[b"functions"])
        return found


def _id(text: str) -> tuple[int, int]:
    ms, _, seq = text.partition("-")
    return int(ms), int(seq)


def letter(entry_id: str, *faults: Fault) -> Letter:
    return deadletters.of_change(change(entry_id), faults or (AGE,))


def test_a_letter_has_the_id_of_its_change_and_a_repeat_adds_none() -> None:
    stream = Stream()
    assert stream.store(letter("5-1"), letter("6-0")) == 2
    assert stream.store(letter("5-1"), letter("6-0"), letter("7-0")) == 1
    assert sorted(stream.entries) == [(5, 1), (6, 0), (7, 0)]
    assert stream.store() == 0


def test_where_a_later_one_stands_already_it_gets_the_next_id() -> None:
    stream = Stream()
    stream.store(letter("9-0"))
    assert stream.store(letter("5-1"), letter("5-2")) == 2
    assert sorted(stream.entries) == [(9, 0), (9, 1), (9, 2)]
    assert stream.store(letter("5-1"), letter("5-2")) == 0


def test_a_change_that_another_function_refuses_too_stays_one_letter() -> None:
    stream = Stream()
    stream.store(letter("5-1"), letter("6-0"))
    assert stream.store(letter("5-1", AGE, OTHER)) == 0
    assert stream.functions() == {(6, 0): ["people"], (6, 1): ["people", "archive"]}
    assert stream.store(letter("5-1", OTHER)) == 0
    assert len(stream.entries) == 2


def test_more_letters_than_are_sent_at_once() -> None:
    stream = Stream()
    many = [letter(f"{number}-0") for number in range(1, deadletters.CHUNK * 2 + 2)]
    assert stream.store(*many) == len(many)
    assert stream.store(*many) == 0
    assert len(stream.entries) == len(many)


def test_what_is_too_large_for_redis_is_left_out_of_an_image() -> None:
    stream = Stream()
    stream.most = 600_000
    image = {"note": "é".encode() * 100_000, "blob": b"\xff" * 30_000, "name": b"Ada"}
    found = [deadletters.of_change(change(f"{number}-0", **image), [AGE]) for number in (1, 2, 3)]
    damaged = [b"x" * 200_000, b"\xff" * 600_000]
    assert stream.store(*found, deadletters.of_malformed(Malformed(b"4-0", damaged, "no change"))) == 4
    *letters, last = [
        json.loads(dict(zip(each[::2], each[1::2]))[b"image"]) for each in stream.entries.values()
    ]
    blob = deadletters.readable(image["blob"])
    assert letters == [{"note": {deadletters.LEFT_OUT: 200_000}, "blob": blob, "name": "Ada"}] * 3
    assert last == {"pairs": {deadletters.LEFT_OUT: 800_000}}


def test_names_that_are_too_large_leave_no_image() -> None:
    stream = Stream()
    stream.most = 600_000
    names = {b"n%d" % number + b"x" * 1000: b"" for number in range(700)}
    assert stream.store(deadletters.of_change(change_of("1-0", names), [AGE])) == 1
    assert b"{}" in stream.entries[1, 0]


def test_the_reasons_are_found_again_by_id_and_epoch() -> None:
    stream = Stream()
    stream.store(letter("5-0"), letter("6-0"))
    asked = [("4-0", 31), ("5-0", 31), ("6-0", 2)]
    assert deadletters.reasons(cast("Commands", stream), "dead", asked) == {"5-0": AGE.reason}


def test_it_is_told_under_which_id_each_stands() -> None:
    stream = Stream()
    assert stream.entries_of(letter("5-1"), letter("9-0")) == ["5-1", "9-0"]
    assert stream.entries_of(letter("6-0"), letter("9-0"), letter("9-1")) == ["9-1", "9-0", "9-2"]


@pytest.mark.parametrize("tells", [True, False], ids=["Redis 7", "Redis 6"])
def test_what_redis_has_forgotten_comes_again_and_what_was_deleted_does_not(tells: bool) -> None:
    stream = Stream()
    stream.deleted = (0, 0) if tells else None
    stream.store(letter("5-0"), letter("6-0"))
    stream.delete("5-0")
    again = [letter(each)._replace(entry=each) for each in ("5-0", "6-0", "7-0")]
    assert stream.entries_of(*again) == ["5-0", "6-0", "7-0"]
    assert sorted(stream.entries) == [(6, 0), (7, 0)]


def test_what_stands_behind_a_forgotten_letter_does_not_hide_it() -> None:
    """Redis 7 tells what was deleted; of Redis 6 only the last id is known."""
    stream = Stream()
    stream.store(letter("9-0"))
    assert stream.entries_of(letter("5-0")._replace(entry="5-0")) == ["9-1"]
    stream.deleted = None
    assert stream.entries_of(letter("6-0")._replace(entry="6-0")) == ["6-0"]
    assert sorted(stream.entries) == [(9, 0), (9, 1)]


def test_a_letter_of_one_function_keeps_what_another_one_said() -> None:
    stream = Stream()
    stream.store(letter("5-0", AGE), letter("6-0"))
    stream.store(letter("5-0", OTHER))
    assert stream.functions() == {(6, 0): ["people"], (6, 1): ["people", "archive"]}
    found = stream.entries[(6, 1)]
    fields = dict(zip(found[::2], found[1::2]))
    assert fields[b"reason"] == b"column age: too large; no such place"
    assert (fields[b"table"], fields[b"column"]) == (b"persons, archived", b"age")
