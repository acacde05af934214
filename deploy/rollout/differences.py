"""What a deploy would change: the payload that is deployed against the one that would be, part by part.

Payloads are compared as the documents that they are, so that a version which an older gearsync deployed is
compared as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gears.declaring.deployment import APART

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was.

    ``function`` is empty for what is of the whole deployment. ``before`` and ``after`` are texts for people,
    empty where there is none. ``loss`` says what can't be had back, or goes stale in SQL; empty: nothing.
    ``note`` says what follows from it otherwise.
    """

    kind: str
    function: str
    what: str
    before: str = ""
    after: str = ""
    loss: str = ""
    note: str = ""

    @property
    def is_destructive(self) -> bool:
        """Whether somebody has to agree to it."""
        return bool(self.loss)

    def __str__(self) -> str:
        sign = {ADDED: "+", REMOVED: "-", CHANGED: "~"}[self.kind]
        subject = f"function {self.function}" if self.function else ""
        what = ": ".join(each for each in (subject, self.what) if each)
        values = " -> ".join(each for each in (self.before, self.after) if each)
        return f"{sign} {what}" + (f": {values}" if values else "")


_LOSSES = {
    "kind": "What clients were promised of this function's keys changes with it.",
    "keys": "Rows of keys that it no longer covers stay in the table as they are, and go stale.",
    "type": "Rows of keys of the old type stay in the table as they are, and go stale.",
    "db": "Rows of keys of the other database stay in the table as they are, and go stale.",
    "table": "The rows of the old table stay there as they are, and go stale.",
    "target": "The rows in the old database stay there as they are, and go stale.",
    "on_delete": "Rows of keys that are deleted from now on are treated otherwise.",
    "on_expire": "Rows of keys that expire from now on are treated otherwise.",
    "on_evict": "Rows of keys that are evicted from now on are treated otherwise.",
    "rest": "The column is another: what the old one holds stays as it is, and goes stale.",
    "deleted_at": "Rows that are marked stay so, and nobody looks at their mark: delete them before.",
    "history": "The table is another kind of table; the rows that it has are not made over.",
    "on_flush": "Rows are treated otherwise when Redis is flushed.",
}
"""Options of a function whose change needs somebody's consent, and why."""
_OF_TRANSFORM = "Rows that are written from now on are made by it; those there are stay as they are."
_FILL = "In rows that there are, the column is filled when their keys are written again."


def between(before: str, after: str) -> list[Difference]:
    """Return what differs between two payloads of a deployment; their versions do not count."""
    old, new = json.loads(before), json.loads(after)
    return [*_functions(old, new), *_targets(old, new), *_settings(old, new)]


def first(after: str) -> list[Difference]:
    """Return what a first deploy brings."""
    return [_added(each) for each in json.loads(after)["functions"]]


def _added(function: dict[str, Any]) -> Difference:
    where = f"{function['kind']}, {function['keys']} and {function['table']} of {function['target']}"
    note = "Keys that are there already are brought to SQL when they are written again."
    return Difference(ADDED, function["name"], "", "", where, note=note)


def _removed(function: dict[str, Any]) -> Difference:
    loss = f"Writes of {function['keys']} no longer reach {function['table']}, whose rows stay as they are."
    return Difference(REMOVED, function["name"], "", function["keys"], "", loss=loss)


def _functions(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    theirs, ours = ({each["name"]: each for each in side["functions"]} for side in (old, new))
    for name, function in theirs.items():
        if name not in ours:
            yield _removed(function)
    for name, function in ours.items():
        if name in theirs:
            yield from _options(name, theirs[name], function)
        else:
            yield _added(function)


def _options(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    yield from _columns(name, old["columns"], new["columns"])
    for option in dict.fromkeys([*old, *new]):
        if option in ("name", "columns") or old.get(option) == new.get(option):
            continue
        loss = _LOSSES.get(option, "")
        if option == "keys" and _names(old["keys"]) != _names(new["keys"]):
            loss = "The primary key of the rows is another: rows of the old keys stay in the table."
        note = _OF_TRANSFORM if option == "transform" else ""
        before, after = _shown(old.get(option)), _shown(new.get(option))
        yield Difference(CHANGED, name, option, before, after, loss, note)


def _names(template: str) -> list[str]:
    from gears.declaring.template import Template

    return list(Template(template).names)


def _columns(name: str, old: dict[str, str], new: dict[str, str]) -> Iterator[Difference]:
    for field in dict.fromkeys([*old, *new]):
        before, after = old.get(field), new.get(field)
        if before == after:
            continue
        what = f"field {field or '(empty)'}"
        stale = f"The column {before} is written no more: its values stay as they are."
        if after is None:
            yield Difference(REMOVED, name, what, str(before), loss=stale)
        elif before is None:
            yield Difference(ADDED, name, what, after=after, note=_FILL)
        else:
            yield Difference(CHANGED, name, what, before, after, loss=stale, note=_FILL)


def _targets(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    for name, before in old["targets"].items():
        after = new["targets"].get(name)
        if after is None:
            loss = "Its rows stay there as they are, and go stale."
            yield Difference(REMOVED, "", f"target {name}", _database(before), loss=loss)
        elif after != before:
            what, loss = f"target {name}", _LOSSES["target"]
            yield Difference(CHANGED, "", what, _database(before), _database(after), loss=loss)
    for name, after in new["targets"].items():
        if name not in old["targets"]:
            yield Difference(ADDED, "", f"target {name}", after=_database(after))


def _database(target: dict[str, Any]) -> str:
    """The reference, never what it stands for."""
    schema = target.get("schema")
    return f"{target['url']}, schema {schema}" if schema else str(target["url"])


def _settings(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    for name in ("batch", "interval_ms", "backlog", "worker", "requirements"):
        if old.get(name) != new.get(name):
            yield Difference(CHANGED, "", name, _shown(old.get(name)), _shown(new.get(name)))
    former, wheels = (_wheels(each.get("wheels", {})) for each in (old, new))
    if former != wheels:
        yield Difference(CHANGED, "", "wheels", _shown(former), _shown(wheels))
    if old["lanes"] != new["lanes"]:
        note = "Changes that wait in the old lanes go to SQL first, and the new ones wait for that."
        yield Difference(CHANGED, "", "lanes", str(old["lanes"]), str(new["lanes"]), note=note)
    before, after = (each.get("transactions", APART) for each in (old, new))
    if before != after:
        yield Difference(CHANGED, "", "transactions", before, after)
    former, names = ([each["name"] for each in side["functions"]] for side in (old, new))
    if former != names and sorted(former) == sorted(names):
        yield Difference(CHANGED, "", "order of functions", ", ".join(former), ", ".join(names))
    if old["source"] != new["source"]:
        before, after = (_digest(each["source"]) for each in (old, new))
        yield Difference(CHANGED, "", "source", before, after, note=_OF_TRANSFORM)
    elif old["source_name"] != new["source_name"]:
        yield Difference(CHANGED, "", "name of the file", _shown(old["source_name"]), new["source_name"])


def _wheels(wheels: Any) -> list[str]:
    """Names and sums, as much of these as tells them apart; versions before there were sums have a list."""
    if isinstance(wheels, dict):
        return [f"{name} sha256 {digest[:12]}" for name, digest in sorted(wheels.items())]
    return sorted(wheels)


def _digest(source: str) -> str:
    return "sha256 " + hashlib.sha256(source.encode()).hexdigest()[:12] if source else "none"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
