"""What of a lane is held back for functions that are paused, and where a session ends that lets one go on."""

from __future__ import annotations

from collections.abc import Sequence

from connectors import Position
from gears.applying.change import MARKS, Change, Changes
from gears.applying.rules import Rules
from gears.declaring.functions import Function, build
from gears.worker.holds import Held, name_hash
from gears.worker.lanes import Reading
from gears.worker.sieve import Sieve


def function(name: str, keys: str, on_flush: str = "keep") -> Function:
    options = {"keys": keys, "table": name, "columns": {"v": "v"}, "on_flush": on_flush}
    found, mistakes = build("write-behind", options, "t", None, "here")
    assert found is not None, mistakes
    return found


ORDERS, ITEMS = function("orders", "order:{id}", "delete"), function("items", "{kind}:{id}")


def change(number: int, key: bytes, op: bytes = b"u", epoch: int = 1) -> Change:
    return Change(b"%d-0" % number, key, op + b"%x" % epoch, (b"v",), [b"1"])


def sieve(
    paused: bool = True,
    at: int = 0,
    lane_at: int = 0,
    last: int = 0,
    functions: Sequence[Function] = (ORDERS, ITEMS),
    earlier: Sequence[Rules] = (),
) -> Sieve:
    held = Held("orders", paused, "L", "H", "D", 0, (last, 0))
    rules = [*earlier, Rules(2, None, functions, {})]
    return Sieve([held], {"H": Position(1, at, 0)}, Position(1, lane_at, 0), rules, 10)


def test_a_change_of_two_functions_is_held_for_one_and_kept_for_the_other() -> None:
    order, item = change(1, b"order:1", b"u1:ticket".partition(b"1")[0]), change(2, b"item:1")
    kept, taken = sieve().sift([order, item])
    assert (kept, taken) == ([order, item], {"H": [b"1-0"]})
    kept, taken = sieve(functions=[ORDERS, function("items", "item:{id}")]).sift([order, item])
    assert (kept, taken) == ([item], {"H": [b"1-0"]})


def test_who_asked_is_answered_by_the_function_that_is_held() -> None:
    asked = change(1, b"order:1")._replace(meta=b"u1:ticket")
    assert [each.ticket for each in sieve().sift([asked])[0]] == [b""]


def test_what_is_in_sql_already_is_not_moved_again() -> None:
    assert sieve(at=1).sift([change(1, b"order:1"), change(2, b"order:1")])[1] == {"H": [b"2-0"]}


def test_a_flush_is_held_where_it_clears_the_table_and_marks_of_moves_are_nobodys() -> None:
    marks = [change(number, b"order:1", op) for number, op in enumerate(MARKS, 2)]
    kept, taken = sieve().sift([change(1, b"", b"f"), *marks])
    assert ([each.id for each in kept], taken) == (["2-0", "3-0", "4-0"], {"H": [b"1-0"]})


def test_an_earlier_version_tells_by_its_own_templates() -> None:
    before = Rules(1, (1, 0), [function("orders", "old:{id}")], {})
    kept, taken = sieve(functions=[ORDERS], earlier=[before]).sift(
        [change(1, b"old:1"), change(2, b"order:1")]
    )
    assert (kept, taken) == ([], {"H": [b"1-0", b"2-0"]})


def test_a_session_that_lets_a_function_go_on_ends_behind_what_was_moved_or_applied() -> None:
    for at, lane_at, last in ((2, 0, 0), (0, 2, 0), (0, 0, 2)):
        read = Reading()
        read.changes = Changes.of([change(number, b"order:1") for number in (1, 2, 3)])
        read.last_id = "3-0"
        assert sieve(False, at, lane_at, last).cut(read)
        assert ([each.id for each in read.changes], read.last_id) == (["1-0", "2-0"], "2-0")
    read.changes = Changes.of([change(3, b"order:1")])
    assert sieve(False, 2).cut(read) and read.last_id == ""
    read.changes = Changes.of([change(3, b"order:1")])
    assert not sieve(True, 2).cut(read)


def test_the_hash_of_a_name_is_the_modules() -> None:
    assert name_hash("a") == "af63dc4c8601ec8c"
