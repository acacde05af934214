"""What a plan says of two payloads, and whom it asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors import Target
from deploy.output import CommandError
from deploy.rollout import differences, upgrade
from deploy.rollout.differences import Difference
from deploy.rollout.upgrade import Upgrade
from gears.declaring.deployment import Deployment
from gears.declaring.functions import build


def payload(target: str = "env:A", name: str = "persons", settings: Any = None, **options: Any) -> str:
    document = {"keys": "person:{id}", "table": "persons", "columns": {"a": "a"}, "name": name, **options}
    function, mistakes = build("write-behind", document, "reporting", options.get("transform"), "")
    assert function is not None, mistakes
    targets = {"reporting": Target(target, name="reporting")}
    return Deployment("people", 1, [function], targets, **(settings or {})).to_payload()


def found(after: str, before: str = payload()) -> list[Difference]:
    return differences.between(before, after)


def test_the_same_differs_in_nothing_whatever_its_version() -> None:
    other = json.loads(payload())
    assert found(json.dumps({**other, "version": 9})) == []


def test_what_a_deploy_would_bring_anew_is_named() -> None:
    """A plan says that there is nothing to do, or why there is."""
    both = json.loads(payload())
    both["functions"] += json.loads(payload(name="others"))["functions"]
    turned = {**both, "functions": both["functions"][::-1]}
    lines = [str(each) for each in found(json.dumps(turned), json.dumps(both))]
    assert lines == ["~ order of functions: persons, others -> others, persons"]
    named = [payload(settings={"source": "x", "source_name": name}) for name in ("a.py", "b.py")]
    assert [str(each) for each in found(named[1], named[0])] == ["~ name of the file: a.py -> b.py"]


@pytest.mark.parametrize(
    ("after", "what", "words"),
    [
        (payload(keys="people:{id}"), "keys", "no longer covers"),
        (payload(keys="person:{number}"), "keys", "primary key"),
        (payload(table="people"), "table", "old table"),
        (payload(target="env:B"), "target reporting", "old database"),
        (payload(on_delete="keep"), "on_delete", "deleted from now on"),
        (payload(columns={"a": "b"}), "field a", "written no more"),
        (payload(columns={"b": "b"}), "field a", "written no more"),
        (payload(name="others"), "", "no longer reach"),
    ],
)
def test_what_loses_something_says_what(after: str, what: str, words: str) -> None:
    lost = [each for each in found(after) if each.is_destructive]
    assert [each.what for each in lost] == [what] and words in lost[0].loss


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (payload(columns={"a": "a", "b": "c"}), ["+ function persons: field b: c"]),
        (payload(settings={"lanes": 3}), ["~ lanes: 1 -> 3"]),
        (payload(settings={"requirements": ["a==1"]}), ['~ requirements: [] -> ["a==1"]']),
        (payload(settings={"source": "x", "source_name": "f.py"}), ["~ source: none -> sha256 2d711642b726"]),
    ],
)
def test_what_loses_nothing_is_shown_all_the_same(after: str, lines: list[str]) -> None:
    assert [str(each) for each in found(after)] == lines
    assert not any(each.is_destructive for each in found(after))


def test_a_payload_of_an_older_gearsync_lacks_what_it_did_not_know() -> None:
    old = json.loads(payload())
    del old["functions"][0]["on_flush"]
    [difference] = found(payload(), json.dumps(old))
    assert str(difference) == "~ function persons: on_flush: none -> keep"


def test_nobody_to_ask_is_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    made = Upgrade("people", 1, 2, found(payload(table="people")))
    with pytest.raises(CommandError) as refused:
        upgrade.require_consent(made, yes=False)
    assert "1 destructive difference" in refused.value.message and "--yes" in refused.value.hint
    upgrade.require_consent(made, yes=True)
    upgrade.require_consent(Upgrade("people", 1, 2, found(payload(settings={"lanes": 2}))), yes=False)
