"""What waits is cut where one version's changes end, and only versions with other rules count."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import redis

from connectors import Target
from gears.applying.change import Change
from gears.applying.rules import Rules, cut
from gears.declaring.deployment import Deployment
from gears.declaring.functions import build
from gears.worker.earlier import Earlier

STREAM = "lane"


def version(number: int, column: str, **settings: Any) -> Deployment:
    options = {"keys": "person:{id}", "table": "persons", "columns": {"a": column}}
    function, mistakes = build("write-behind", options, "reporting", settings.pop("transform", None), "")
    assert function is not None, mistakes
    targets = {"reporting": Target("env:A", name="reporting")}
    return Deployment("people", number, [function], targets, **settings)


def found(present: Deployment, *earlier: tuple[Deployment, int | None]) -> list[Rules]:
    """Each earlier version has its mark, or nothing waiting."""
    reply = [
        [each.version, each.to_payload().encode(), [] if upto is None else [[STREAM.encode(), upto, 0]]]
        for each, upto in earlier
    ]
    client = Mock(execute_command=Mock(return_value=reply))
    return Earlier(present, {}).of_lane(client, STREAM, "reporting")


def rules_of(present: Deployment, *earlier: tuple[Deployment, int | None]) -> list[tuple[int, Any]]:
    return [(each.version, each.upto) for each in found(present, *earlier)]


def test_changes_are_cut_where_a_version_ends() -> None:
    waiting = [Change(b"%d-0" % ms, b"person:1", b"u1", (), []) for ms in (1, 2, 3, 4, 5)]
    rules = [Rules(1, (2, 0), [], {}), Rules(2, (4, 7), [], {})]
    parts = cut([waiting[:1], waiting[1:]], rules)
    assert [[each.position.ms for each in part] for part in parts] == [[1], [2], [3, 4], [5]]
    assert cut([waiting], []) == [waiting]
    assert cut([[]], rules) == [[]]


def test_versions_without_other_rules_do_not_count() -> None:
    present = version(4, "a")
    assert rules_of(present, (version(1, "a"), 5), (version(3, "a", lanes=1, batch=7), 9)) == []
    assert rules_of(present, (version(1, "b"), None)) == []
    assert rules_of(present, (version(1, "b"), 5), (version(2, "a"), 9)) == [(1, (5, 0))]
    assert rules_of(present, (version(1, "a"), 5), (version(2, "b"), 9)) == [(1, (5, 0)), (2, (9, 0))]


def test_a_version_whose_file_no_longer_loads_is_left_to_the_present_one() -> None:
    broken = version(1, "a", transform="f", source="raise SystemExit(3)", source_name="f.py")
    assert rules_of(version(2, "b"), (broken, 5)) == []


def test_what_such_a_version_captured_goes_by_no_other_old_rules() -> None:
    broken = version(1, "a", transform="f", source="raise SystemExit(3)", source_name="f.py")
    present = version(3, "c")
    first, second = found(present, (broken, 5), (version(2, "b"), 9))
    assert first.upto == (5, 0) and list(first.functions) == present.functions
    assert second.upto == (9, 0) and second.functions[0].mapping.columns == {"a": "b"}


def test_a_module_that_is_older_than_the_worker_keeps_no_versions() -> None:
    refused = redis.ResponseError("unknown command 'GEARSYNC.VERSIONS', with args beginning with: 'people' ")
    client = Mock(execute_command=Mock(side_effect=refused))
    assert Earlier(version(1, "a"), {}).of_lane(client, STREAM, "reporting") == []
    client.execute_command.side_effect = redis.ResponseError("NOPERM this user has no permissions")
    with pytest.raises(redis.ResponseError):
        Earlier(version(1, "a"), {}).of_lane(client, STREAM, "reporting")
