"""What is wrong between the functions and settings of a deployment, each of which is right by itself."""

from __future__ import annotations

from gears.declaring import kinds
from gears.declaring.deployment import MAX_ALL_LANES, Deployment
from gears.declaring.errors import Mistake
from gears.declaring.functions import Function
from gears.declaring.patterns import Around, Reading, Through


def check_together(deployment: Deployment, place: str) -> list[Mistake]:
    """Return what is wrong between a deployment's functions and settings, each of which is right by
    itself.
    """
    mistakes: list[Mistake] = []
    if not deployment.functions:
        mistakes.append(Mistake(place, "", "", "no function is declared; a deployment needs at least one"))
    if deployment.lanes * len(deployment.targets) > MAX_ALL_LANES:
        message = "{} targets of {} lanes each are too many: at most {} lanes for all targets together"
        problem = message.format(len(deployment.targets), deployment.lanes, MAX_ALL_LANES)
        mistakes.append(Mistake(place, "", "lanes", problem))
    mistakes += _through_mistakes(deployment, place)
    mistakes += _whole_mistakes(deployment, place)
    mistakes += _expiry_mistakes(deployment, place)
    mistakes += _mark_mistakes(deployment, place)
    places: dict[str, str] = {}
    for function in deployment.functions:
        if function.name in places:
            message = 'another function is called {} ({}); give one of them name="…"'
            problem = message.format(function.name, places[function.name] or "above")
            mistakes.append(Mistake(function.place or place, function.name, "name", problem))
        places.setdefault(function.name, function.place)
        for other in deployment.capturing:
            if other.mapping.operations < function.mapping.operations and _share_keys(other, function):
                problem = f"{other.name} has the same keys; the field # can't be a field for the one alone"
                mistakes.append(Mistake(function.place or place, function.name, "operations", problem))
        mistakes += _type_mistakes(function, deployment, place)
        mistakes += _database_mistakes(function, deployment, place)
        if function.mapping.on_flush == "delete" and deployment.lanes > 1:
            problem = (
                "rows can be deleted at a flush only with lanes = 1: lanes have no order among each other"
            )
            mistakes.append(Mistake(function.place or place, function.name, "on_flush", problem))
    return mistakes


def _through_mistakes(deployment: Deployment, place: str) -> list[Mistake]:
    """What write-through asks for: one order, and one database that can say yes or no."""
    mistakes: list[Mistake] = []
    for function in deployment.capturing:
        if function.kind != Through.kind and deployment.is_through:
            problem = "others here are write-through, and would wait for it; deploy it from a file of its own"
            mistakes.append(Mistake(function.place or place, function.name, "", problem))
    if not deployment.is_through:
        return mistakes
    if deployment.lanes > 1:
        problem = (
            "write-through has one lane: its transactions hold the writes of all clients; leave lanes out"
        )
        mistakes.append(Mistake(place, "", "lanes", problem))
    first = deployment.capturing[0]
    for function in deployment.capturing[1:]:
        if function.target_name != first.target_name:
            problem = f"{first.name} writes to {first.target_name}: one transaction can't be in two databases"
            mistakes.append(Mistake(function.place or place, function.name, "target", problem))
    return mistakes


def _whole_mistakes(deployment: Deployment, place: str) -> list[Mistake]:
    """What transactions that stay whole ask for: one order, and all that they changed in their changes."""
    mistakes: list[Mistake] = []
    if not deployment.is_whole:
        return mistakes
    if deployment.lanes > 1:
        problem = (
            "transactions stay whole only with one lane: what one of them changed would be in several, "
            "each with SQL transactions of its own; leave lanes out"
        )
        mistakes.append(Mistake(place, "", "transactions", problem))
    for function in deployment.capturing:
        where = function.place or place
        if function.kind == Through.kind:
            problem = (
                "write-through commits each write before the next, and none in a MULTI or script; leave out "
                'transactions="whole"'
            )
            mistakes.append(Mistake(where, function.name, "transactions", problem))
        elif kinds.has_members(function.mapping.type):
            problem = (
                f"the members of a {function.mapping.type} are read when its change goes to SQL, and may be "
                'of a later transaction then; transactions="whole" is for hashes and JSON documents'
            )
            mistakes.append(Mistake(where, function.name, "transactions", problem))
    return mistakes


def takes_row_along(copying: Function, writing: Function) -> bool:
    """Whether the end of a hash that the one has made of a row, for some time, is that of the other's row."""
    if not isinstance(copying.pattern, (Reading, Around)) or not copying.pattern.ttl:
        return False
    return writing.mapping.on_expire != "keep" and writing.mapping.shares_keys(copying.mapping)


def _expiry_mistakes(deployment: Deployment, place: str) -> list[Mistake]:
    """A hash that is a copy of its row for some time must not take the row with it at its end."""
    mistakes: list[Mistake] = []
    for function in deployment.functions:
        for other in deployment.capturing:
            if takes_row_along(function, other):
                problem = (
                    f"{other.name} {other.mapping.on_expire}s the row of a hash that expires; "
                    'give that one on_expire="keep"'
                )
                mistakes.append(Mistake(function.place or place, function.name, "ttl", problem))
    return mistakes


def _mark_mistakes(deployment: Deployment, place: str) -> list[Mistake]:
    """Who reads rows must know which of them count as deleted."""
    mistakes: list[Mistake] = []
    for function in deployment.functions:
        for other in deployment.capturing:
            mark = other.mapping.additions.deleted_at
            same = (other.mapping.table, other.target_name) == (function.mapping.table, function.target_name)
            if same and mark and not function.captures and function.mapping.additions.deleted_at != mark:
                problem = (
                    f'{other.name} marks rows that are deleted; give this one deleted_at="{mark}" as well'
                )
                mistakes.append(Mistake(function.place or place, function.name, "deleted_at", problem))
    return mistakes


def _type_mistakes(function: Function, deployment: Deployment, place: str) -> list[Mistake]:
    """A key holds one type of value."""
    mapping = function.mapping
    found = []
    for other in deployment.functions[: deployment.functions.index(function)]:
        theirs = other.mapping
        if theirs.type != mapping.type and theirs.shares_keys(mapping):
            problem = f"{other.name} has the same keys as type {theirs.type}, and this one as {mapping.type}"
            found.append(Mistake(function.place or place, function.name, "type", problem))
    return found


def _database_mistakes(function: Function, deployment: Deployment, place: str) -> list[Mistake]:
    """The changes of a target do not say of which database their keys are."""
    mapping = function.mapping
    found = []
    for other in deployment.capturing:
        if other is function:
            break
        theirs = other.mapping
        if theirs.db == mapping.db or other.target_name != function.target_name or not function.captures:
            continue
        apart = 'write to a target of another name, Target("…", name="…"), which may be the same database'
        where = f"database {theirs.db}, and this one in {mapping.db}"
        if theirs.keys.overlaps(mapping.keys):
            problem = f"{other.name} has the same keys in {where}; {apart}"
            found.append(Mistake(function.place or place, function.name, "db", problem))
        elif theirs.on_flush == mapping.on_flush == "delete":
            problem = f"{other.name} deletes its rows at a flush of {where}; {apart}"
            found.append(Mistake(function.place or place, function.name, "on_flush", problem))
    return found


def _share_keys(one: Function, other: Function) -> bool:
    return (one.mapping.keys.text, one.mapping.db) == (other.mapping.keys.text, other.mapping.db)
