"""Pages of dead letters over several shards and lanes, without a server."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from deploy.letters import pages
from deploy.letters.pages import Filter, Place
from deploy.reaching.shards import Shard, Shards

Entries = dict[str, list[tuple[bytes, dict[bytes, bytes]]]]


class FakeShards:
    """Streams in memory; notes the most entries that one command has given."""

    def __init__(self, streams: dict[str, Entries]) -> None:
        self.shards = [Shard(address, cast(Any, address), "") for address in streams]
        self._streams = streams
        self.most = 0

    def on_key(self, client: str, command: str, stream: str, start: str, end: str, *count: Any) -> Any:
        entries = self._streams[client].get(stream, [])
        if command == "XREVRANGE":
            entries = [each for each in reversed(entries) if start == "+" or self._is_before(each[0], start)]
        else:
            entries = [each for each in entries if each[0].decode() == start == end]
        self.most = max(self.most, len(entries[: count[1]]))
        return entries[: count[1]]

    @staticmethod
    def _is_before(entry_id: bytes, start: str) -> bool:
        def number(text: str) -> tuple[int, ...]:
            return tuple(map(int, text.split("-")))

        this, that = number(entry_id.decode()), number(start.lstrip("("))
        return this < that if start.startswith("(") else this <= that

    def statuses(self) -> list[dict[str, Any]]:
        return [
            {
                "address": address,
                "deployments": [
                    {
                        "name": "people",
                        "targets": [{"name": "t", "lanes": [_lane(name, len(each))]}],
                    }
                    for name, each in streams.items()
                ],
            }
            for address, streams in self._streams.items()
        ]


def _lane(stream: str, letters: int) -> dict[str, Any]:
    return {"dead_stream": stream, "dead_letters": letters}


def entry(milliseconds: int, function: str = "persons") -> tuple[bytes, dict[bytes, bytes]]:
    fields = {b"key": b"person:%d" % milliseconds, b"functions": json.dumps([function]).encode()}
    return b"%d-0" % milliseconds, fields


def all_pages(shards: FakeShards, chosen: Filter, size: int) -> list[str]:
    """Return the places of all letters, a page after another."""
    found: list[str] = []
    before: Place | None = None
    while True:
        page = pages.page(cast(Shards, shards), shards.statuses(), chosen, before, size)
        found += [str(pages.place(each)) for each in page.letters]
        if page.older is None:
            return found
        assert len(page.letters) == size or before is None or page.older.order < before.order
        before = page.older


def test_pages_go_from_the_newest_to_the_oldest_over_all_lanes_and_shards() -> None:
    shards = FakeShards(
        {
            "a": {"one": [entry(n) for n in range(0, 300, 2)], "two": [entry(n) for n in range(0, 300, 3)]},
            "b": {"three": [entry(n) for n in range(250)]},
        }
    )
    places = all_pages(shards, Filter(), 7)
    assert len(places) == len(set(places)) == 150 + 100 + 250
    assert places == sorted(places, key=lambda each: Place.parse(each).order, reverse=True)
    assert shards.most <= pages.CHUNK


def test_the_end_of_a_page_between_letters_with_one_id_leaves_none_out() -> None:
    shards = FakeShards({"a": {name: [entry(5)] for name in ("one", "two", "three")}})
    assert all_pages(shards, Filter(), 1) == ["5-0 two", "5-0 three", "5-0 one"]


def test_a_last_page_that_is_full_is_the_last_one() -> None:
    shards = FakeShards({"a": {"one": [entry(1), entry(2)]}})
    page = pages.page(cast(Shards, shards), shards.statuses(), Filter(), None, 2)
    assert (len(page.letters), page.older) == (2, None)


def test_filters_by_function_and_deployment() -> None:
    shards = FakeShards({"a": {"one": [entry(n, "odd" if n % 2 else "even") for n in range(250)]}})
    assert len(all_pages(shards, Filter(function="odd"), 10)) == 125
    assert all_pages(shards, Filter(function="none"), 10) == []
    assert all_pages(shards, Filter(deployment="other"), 10) == []


def test_a_rare_function_does_not_make_one_request_look_through_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "SCAN_LIMIT", 50)
    shards = FakeShards({"a": {"one": [entry(0, "rare"), *(entry(n) for n in range(1, 201))]}})
    first = pages.page(cast(Shards, shards), shards.statuses(), Filter(function="rare"), None, 10)
    assert (list(first.letters), first.older) == ([], Place(151, 0, "one"))
    assert all_pages(shards, Filter(function="rare"), 10) == ["0-0 one"]


def test_a_shard_that_did_not_answer_is_left_out() -> None:
    shards = FakeShards({"a": {"one": [entry(1)]}, "b": {"two": [entry(2)]}})
    page = pages.page(cast(Shards, shards), shards.statuses()[:1], Filter(), None, 10)
    assert [each.stream for each in page.letters] == ["one"]


def test_find_looks_at_streams_of_letters_only() -> None:
    shards = FakeShards({"a": {"one": [entry(1)]}})
    places = [Place(1, 0, "one"), Place(2, 0, "one"), Place(1, 0, "somebody:else")]
    found = pages.find(cast(Shards, shards), shards.statuses(), places)
    assert [(each.id, each.stream, each.key) for each in found] == [("1-0", "one", b"person:1")]


@pytest.mark.parametrize("text", ["", "1-0", "1 one", "a-0 one", "1-0 ", "-1-0 one"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the place of a dead letter"):
        Place.parse(text)
    assert Place.parse("17-3 a stream with blanks").stream == "a stream with blanks"
