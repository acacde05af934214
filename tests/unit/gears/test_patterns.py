from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from connectors import Target
from gears import ReadThrough, WriteAround, WriteBehind, WriteThrough
from gears.declaring import config, patterns
from gears.declaring.declarations import Declaration
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError
from gears.declaring.patterns import Around, Reading, Through
from gears.declaring.together import check_together

TARGET = Target("sqlite:////tmp/x.db", name="db")
PERSONS: dict[str, Any] = {"keys": "person:{id}", "table": "persons", "columns": ["name"], "target": TARGET}

ALL_KINDS = """
[targets.db]
url = "sqlite:////tmp/x.db"

[[functions]]
kind = "write-through"
keys = "person:{id}"
table = "persons"
columns = ["name"]
target = "db"
timeout_ms = 700
on_expire = "keep"

[[functions]]
kind = "read-through"
keys = "person:{id}"
table = "persons"
columns = ["name"]
target = "db"
ttl = 60
refresh_ahead = 10
on_failure = "miss"

[[functions]]
kind = "write-around"
keys = "person:{id}"
table = "persons"
target = "db"
"""


def test_all_kinds_go_through_the_payload(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(ALL_KINDS)
    deployment = config.load(str(path))
    again = Deployment.from_payload(deployment.to_payload())
    assert [each.pattern for each in again.functions] == [
        Through(timeout_ms=700),
        Reading(ttl=60, refresh_ahead=10, on_failure="miss"),
        Around(),
    ]
    assert [each.name for each in again.functions] == [
        "persons",
        "persons read-through",
        "persons write-around",
    ]
    assert again.to_payload() == deployment.to_payload()
    assert again.is_through


def test_the_module_is_told_who_captures_and_who_reads(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(ALL_KINDS)
    words = [word.decode() for word in config.load(str(path)).deploy_arguments()]
    assert " ".join(words[words.index("FUNCTIONS") :]) == (
        "FUNCTIONS 1 db 0 person:{id} KEEP THROUGH 700 NAMED persons 1 name "
        "READS 1 db 0 person:{id} 5000 1000 10000 MISS"
    )


@pytest.mark.parametrize(
    ("declare", "option"),
    [
        (lambda: WriteThrough(**PERSONS, timeout_ms=0), "timeout_ms"),
        (lambda: ReadThrough(**PERSONS, ttl=-1), "ttl"),
        (lambda: ReadThrough(**PERSONS, ttl=5, refresh_ahead=5), "refresh_ahead"),
        (lambda: ReadThrough(**PERSONS, on_failure="ignore"), "on_failure"),
        (lambda: ReadThrough(**PERSONS, missing_ms=True), "missing_ms"),
        (lambda: WriteAround("person:{id}", "persons", TARGET, on_change="drop"), "on_change"),
        (lambda: WriteAround("person:{id}", "persons", TARGET, on_change="refresh"), "columns"),
    ],
)
def test_a_wrong_option_is_named(declare: Callable[[], object], option: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert [mistake.option for mistake in caught.value.mistakes] == [option]


def test_each_kind_takes_its_own_options_only(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        ALL_KINDS.replace("timeout_ms = 700", "operations = true").replace("ttl = 60", "tll = 60")
    )
    with pytest.raises(DeclarationError) as caught:
        config.load(str(path))
    said = {mistake.option: mistake.message for mistake in caught.value.mistakes}
    assert "ttl" in said["tll"]
    assert "operations" in said


def _together(*declared: Declaration, **settings: Any) -> list[str]:
    functions = [each.function for each in declared if each.function is not None]
    targets = {each.target.name: each.target for each in declared}
    return [
        each.message
        for each in check_together(Deployment("d", functions=functions, targets=targets, **settings), "f.py")
    ]


def test_write_through_stands_alone() -> None:
    through = WriteThrough(**PERSONS)
    assert _together(through, ReadThrough(**PERSONS)) == []
    (message,) = _together(through, WriteBehind(**{**PERSONS, "table": "others"}))
    assert "a file of its own" in message
    (message,) = _together(through, lanes=2)
    assert "one lane" in message
    (message,) = _together(
        through, WriteThrough(**{**PERSONS, "table": "others", "target": Target("env:X", name="x")})
    )
    assert "two databases" in message


@pytest.mark.parametrize("kind", [ReadThrough, WriteAround])
@pytest.mark.parametrize("writes", [WriteBehind, WriteThrough])
def test_the_end_of_a_copy_is_not_the_end_of_its_row(kind: Any, writes: Any) -> None:
    copies = kind(**PERSONS, ttl=60, name="copies")
    (message,) = _together(copies, writes(**PERSONS))
    assert 'persons deletes the row of a hash that expires; give that one on_expire="keep"' in message
    assert _together(copies, writes(**PERSONS, on_expire="keep")) == []
    assert _together(kind(**PERSONS, name="copies"), writes(**PERSONS)) == []
    assert _together(copies, writes(**{**PERSONS, "keys": "other:{id}"})) == []


def test_every_kind_is_known() -> None:
    assert list(patterns.PATTERNS) == ["write-behind", "write-through", "read-through", "write-around"]
