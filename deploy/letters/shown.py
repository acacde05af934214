"""One dead letter whole: what it is, and the row it would have been."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deploy import output
from deploy.letters.store import Letter
from deploy.reaching.server_errors import errors_of
from gears.applying.deadletters import LEFT_OUT, readable
from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError
from gears.declaring.functions import Function

_LINES = (
    ("key", "key"),
    ("reason", "reason"),
    ("column", "column"),
    ("change", "change"),
    ("transaction", "transaction"),
    ("op", "operation"),
    ("at", "refused at"),
    ("deployment", "deployment"),
    ("target", "target"),
    ("functions", "functions"),
    ("version", "version now"),
    ("stream", "stream"),
    ("shard", "shard"),
)
_OPERATIONS = {
    "u": "u (written)",
    "r": "r (fields removed)",
    "n": "n (replaced whole)",
    "d": "d (deleted)",
    "x": "x (expired)",
    "v": "v (evicted)",
    "f": "f (flushed)",
    "t": "t (deleted by the operation ~)",
    "q": "q (a field # that is no operation)",
    "!": "! (members that were not read)",
}
_ABSENT = {
    "u": "untouched in an existing row",
    "r": "NULL in an existing row",
}
_GONE = ("d", "x", "v", "f", "t")


def document(letter: Letter) -> dict[str, Any]:
    """Return a letter with ``version`` (the deployment's now, or None) and ``rows`` it would have been."""
    with errors_of(letter.shard.address):
        deployed = letter.shard.host.deployments().get(letter.deployment)
    whole = {**letter.whole(), "version": None if deployed is None else deployed.version, "rows": []}
    if deployed is None or not deployed.payload:
        return whole
    try:
        deployment = Deployment.from_payload(deployed.payload)
    except PayloadError as error:
        whole["rows"] = [
            {"function": "", "table": "", "columns": {}, "note": f"the deployment can't be read: {error}"}
        ]
        return whole
    by_name = {each.name: each for each in deployment.functions}
    whole["rows"] = [row(by_name.get(name), name, letter.key, whole) for name in letter.functions]
    return whole


def row(function: Function | None, name: str, key: bytes, letter: dict[str, Any]) -> dict[str, Any]:
    """Return what a function would have made of a letter's change: each column with what is meant for it.

    ``note`` says what can't be told from here; columns are then those that can.
    """
    if function is None:
        note = "the deployment has no such function any more"
        return {"function": name, "table": "", "columns": {}, "note": note}
    mapping = function.mapping
    made: dict[str, Any] = {"function": name, "table": mapping.table, "columns": {}, "note": ""}
    parts = mapping.keys.match(key)
    if parts is None:
        return {**made, "note": "the key does not fit its template any more"}
    columns = made["columns"]
    columns.update((column, readable(part)) for column, part in zip(mapping.keys.names, parts))
    if letter["op"] in _GONE:
        return {**made, "note": "the row was to go, or to be marked"}
    if mapping.type != kinds.HASH:
        return {**made, "note": f"what a {mapping.type} becomes is not worked out here"}
    if function.transform_name is not None:
        return {**made, "note": f"the rest is up to the transform {function.transform_name}"}
    image = letter["image"]
    columns.update((column, image[field]) for field, column in mapping.columns.items() if field in image)
    columns.update(mapping.additions.constants)
    absent = [column for field, column in mapping.columns.items() if field not in image]
    made["note"] = "; ".join(_notes(absent, letter["op"], mapping.additions.columns, columns))
    return made


def _notes(absent: list[str], op: str, added: tuple[str, ...], columns: dict[str, Any]) -> Iterator[str]:
    if absent:
        otherwise = (
            f"{_ABSENT[op]}, the column's default in a new one" if op in _ABSENT else "the column's default"
        )
        yield f"no field for {', '.join(absent)}: {otherwise}"
    later = [column for column in added if column not in columns]
    if later:
        yield f"made when it is written: {', '.join(later)}"


def print_letter(document: dict[str, Any]) -> None:
    """Print a letter for people; what could steer the terminal is escaped."""
    output.heading(f"Dead letter {document['id']}")
    lines = [(title, _text(name, document[name])) for name, title in _LINES]
    output.table(("", ""), [(title, text) for title, text in lines if text], fold=[""])
    output.line()
    output.heading("The hash as it was captured")
    _pairs(document["image"], "It had no fields.")
    for each in document["rows"]:
        output.line()
        output.heading(f"The row of {each['function']} in {each['table'] or '?'}")
        _pairs(each["columns"], "")
        if each["note"]:
            output.bullets([f"{each['note']}."])


def _pairs(pairs: dict[str, Any], none: str) -> None:
    if pairs:
        output.table(("", ""), [(name, _value(value)) for name, value in pairs.items()], fold=[""])
    elif none:
        output.line(f"  {none}")


def _text(name: str, value: Any) -> str:
    if name == "functions":
        return ", ".join(map(str, value))
    if name == "transaction":
        return f"{value}, refused whole" if value else ""
    if name == "op":
        return _OPERATIONS.get(value, str(value))
    if name == "version" and value is None:
        return "the deployment is gone"
    return _value(value)


def _value(value: Any) -> str:
    """Return a value in one line: a text in quotes where they tell something, bytes as base64."""
    if value is None:
        return "NULL"
    if isinstance(value, dict) and set(value) == {"base64"}:
        return f"base64 {value['base64']}"
    if isinstance(value, dict) and set(value) == {LEFT_OUT}:
        return f"{value[LEFT_OUT]} bytes, too many for a letter"
    if isinstance(value, str):
        return value if value and value == value.strip() and value != "NULL" else f'"{value}"'
    return str(json.dumps(value, ensure_ascii=False))
