"""Functions that would write over each other's columns: inside one deployment, and between deployments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors import Target, TargetError
from deploy.checks.findings import Findings
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Through
from gears.declaring.together import takes_row_along


def check_within(deployment: Deployment, findings: Findings) -> None:
    """Add clashes between the functions of one deployment."""
    for index, function in enumerate(deployment.capturing):
        for earlier in deployment.capturing[:index]:
            target, other = (deployment.targets[each.target_name] for each in (function, earlier))
            if not same_database(target, other) or function.mapping.table != earlier.mapping.table:
                continue
            _check_pair(function, earlier, findings)


def _check_pair(function: Function, earlier: Function, findings: Findings) -> None:
    where = f"{earlier.name} ({earlier.place})"
    common = _common_columns(function, earlier)
    same_keys = function.mapping.shares_keys(earlier.mapping)
    if common and same_keys:
        message = (
            f"{where} writes the same {_columns(common)} of {function.mapping.table}, and both cover the "
            "same "
            "keys; map each column in one of them"
        )
        findings.mistake(message, function, "columns")
    elif not same_keys and not (function.mapping.additions.history and earlier.mapping.additions.history):
        findings.warn(
            f"{where} writes to {function.mapping.table} too, from other keys: two keys of one row are "
            "applied "
            "in no certain order, and the row goes when either of them does",
            function,
            "table",
        )


def check_with_others(deployment: Deployment, others: Sequence[Deployment], findings: Findings) -> None:
    """Add clashes with the deployments that a server has already; one of the same name is being
    replaced.
    """
    for function, other, theirs in _pairs(deployment, others):
        common = _common_columns(function, theirs)
        if not common:
            continue
        findings.mistake(
            f"the deployment {other.name} (function {theirs.name}) already writes the {_columns(common)} of "
            f"{function.mapping.table}; leave the column to one of them, or run `gearsync undeploy "
            f"{other.name}`",
            function,
            "columns",
        )


def check_waiting(deployment: Deployment, others: Sequence[Deployment], findings: Findings) -> None:
    """Add keys of which the writes would wait for two transactions."""
    ours = [each for each in deployment.capturing if each.kind == Through.kind]
    for other in others:
        for theirs in other.capturing:
            if other.name == deployment.name or theirs.kind != Through.kind:
                continue
            for function in ours:
                if not function.mapping.shares_keys(theirs.mapping):
                    continue
                findings.mistake(
                    f"the deployment {other.name} (function {theirs.name}) is write-through for the same "
                    "keys, and one write can't be in two transactions; declare both in one file",
                    function,
                    "keys",
                )


def check_expiry(deployment: Deployment, others: Sequence[Deployment], findings: Findings) -> None:
    """Add functions of which the one deletes the row of a hash that is the other's copy of it for some
    time.
    """
    for other in others:
        if other.name == deployment.name:
            continue
        for function in deployment.functions:
            for theirs in other.functions:
                where = f"the deployment {other.name} (function {theirs.name})"
                if theirs.captures and takes_row_along(function, theirs):
                    findings.mistake(
                        f"{where} {theirs.mapping.on_expire}s the row of a hash that expires; give that one "
                        'on_expire="keep" first',
                        function,
                        "ttl",
                    )
                elif function.captures and takes_row_along(theirs, function):
                    findings.mistake(
                        f"{where} loads rows of the same keys for the time of its ttl, and at its end they "
                        'would be deleted; write on_expire="keep"',
                        function,
                        "on_expire",
                    )


def _pairs(
    deployment: Deployment, others: Sequence[Deployment]
) -> Iterator[tuple[Function, Deployment, Function]]:
    for other in others:
        if other.name == deployment.name:
            continue
        for function in deployment.capturing:
            for theirs in other.capturing:
                target, their_target = (
                    deployment.targets[function.target_name],
                    other.targets[theirs.target_name],
                )
                if function.mapping.additions.history and theirs.mapping.additions.history:
                    # Each has rows of its own, by its lanes.
                    continue
                if function.mapping.table == theirs.mapping.table and same_database(target, their_target):
                    yield function, other, theirs


def _common_columns(one: Function, other: Function) -> list[str]:
    theirs = set(other.mapping.written)
    return [column for column in one.mapping.written if column in theirs]


def _columns(names: Sequence[str]) -> str:
    return f"column {names[0]}" if len(names) == 1 else f"columns {', '.join(names)}"


def same_database(one: Target, other: Target) -> bool:
    """Return whether two targets are one database: by their reference, or by what it resolves to here."""
    if one.schema != other.schema:
        return False
    if one.reference == other.reference:
        return True
    try:
        return one.resolve() == other.resolve()
    except TargetError:
        # What can't be resolved is reported where the tables are looked at.
        return False
