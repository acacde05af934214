"""What the keys of a mapping hold: hashes, JSON documents, or many members, which are a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gears.declaring import paths
from gears.declaring.additions import MARKING

HASH, JSON, SET, LIST, ZSET = "hash", "json", "set", "list", "zset"
TYPES = (HASH, JSON, SET, LIST, ZSET)

FIELDS = {SET: ("member",), LIST: ("index", "value"), ZSET: ("member", "score")}
"""What ``columns`` may name for keys of many members. The first tells the row: it is in the primary key."""

MEMBERS = 10_000
"""The most members of a key, unless the mapping says otherwise."""
MOST_MEMBERS = 1_000_000

_OF_FIELDS = ("operations", "rest", "computed", "history")


def has_members(kind: str) -> bool:
    """Return whether keys of this type are many rows."""
    return kind in FIELDS


def check(options: dict[str, Any], has_transform: bool) -> list[tuple[str, str]]:
    """Return what is wrong with the options that depend on ``type``, as pairs of option and sentence."""
    kind = options.get("type", HASH)
    if kind not in TYPES:
        words = ", ".join(f'"{each}"' for each in TYPES)
        return [("type", f"{kind!r} is no type of keys; the types are {words}")]
    problems = [
        (option, f"this is for hashes; keys of type {kind} have no fields")
        for option in _OF_FIELDS
        if kind != HASH and options.get(option)
    ]
    if has_members(kind) and options.get("constants"):
        problems.append(("constants", f"a {kind} is many rows, which have the columns of its members alone"))
    if has_members(kind) and has_transform:
        problems.append(("transform", f"transforms take hashes and documents; a {kind} is many rows"))
    problems += [
        (option, f"a {kind} is many rows, which go with their members; there is no mark for them")
        for option in MARKING
        if has_members(kind) and options.get(option) == "mark"
    ]
    members = options.get("members", MEMBERS)
    if not isinstance(members, int) or isinstance(members, bool) or not 1 <= members <= MOST_MEMBERS:
        problems.append(("members", f"{members!r} is not a whole number from 1 to {MOST_MEMBERS}"))
    elif members != MEMBERS and not has_members(kind):
        problems.append(("members", f"keys of type {kind} have no members"))
    return problems


def columns_of(kind: str, columns: Any) -> Any:
    """Return ``columns`` as a mapping of this type means it: names in a list are those of a document."""
    if kind != JSON or not isinstance(columns, (list, tuple)):
        return columns
    return {paths.of_name(name) if isinstance(name, str) else name: name for name in columns}


def check_columns(kind: str, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is wrong with the fields that ``columns`` names."""
    if kind == JSON:
        return [("columns", problem) for problem in map(_path_problem, columns) if problem]
    if not has_members(kind) or not columns:
        return []
    known = FIELDS[kind]
    words = " and ".join(f'"{each}"' for each in known)
    problems = [
        ("columns", f"a {kind} has no {field!r}; name the columns of {words}")
        for field in columns
        if field not in known
    ]
    if known[0] not in columns:
        problems.append(
            ("columns", f'the column of "{known[0]}" is missing, which tells the rows of a {kind}')
        )
    return problems


def _path_problem(text: str) -> str:
    try:
        paths.parse(text)
    except paths.PathError as error:
        return str(error)
    return ""
