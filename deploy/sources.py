"""Which functions a load or a comparison is of, and whether Redis has them as the file says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import URL

from connectors import Connector, ConnectorError, Target, TargetError, connect
from deploy import output
from deploy.output import CommandError
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards
from gears.declaring import config, kinds
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError
from gears.declaring.functions import Function
from gears.declaring.patterns import Around, Reading

HISTORY = "the rows of a history say what was, and Redis only knows what is"


@dataclass(frozen=True)
class Source:
    """A function whose rows are loaded or compared, and the database that has them."""

    deployment: Deployment
    function: Function
    target: Target
    url: URL = field(repr=False)

    @property
    def ttl_ms(self) -> int:
        """How long its hashes live, in milliseconds; 0: for ever."""
        pattern = self.function.pattern
        return pattern.ttl * 1000 if isinstance(pattern, (Reading, Around)) else 0

    def scope(self, where: str) -> dict[str, Any]:
        """Return what tells one load of the function from another, as JSON can hold it."""
        return {**_mapped(self.function), "target": self.target.reference, "where": where}


def choose(file: str, name: str | None, function: str | None) -> Source:
    """Return the function of ``file`` that is named, or else the only one that can be meant.

    That is the only read-through function, or the only function with columns. Raises CommandError.
    """
    deployment = load(file, name)
    chosen = _chosen(deployment, function)
    if chosen.transform_name is not None:
        raise CommandError(
            f"the function {chosen.name} has a transform, and there is no way back from what that made.",
            "load by a function without one, such as ReadThrough.",
        )
    return _source(deployment, chosen)


def comparable(file: str, name: str | None, function: str | None) -> list[Source]:
    """Return the function of ``file`` that is named; without a name all that bring writes to SQL, or, where
    there are none, all that have columns. Raises CommandError.
    """
    deployment = load(file, name)
    chosen = [
        each for each in deployment.functions if each.mapping.written and not each.mapping.additions.history
    ]
    if function is not None:
        named = [each for each in deployment.functions if each.name == function]
        if named and named[0].mapping.additions.history:
            raise CommandError(f"{function} is a history, and is not compared: {HISTORY}.")
        names = ", ".join(each.name for each in chosen)
        chosen = [each for each in chosen if each.name == function]
        if not chosen:
            hint = f"one of {names}." if names else ""
            raise CommandError(f"there is no function {function} with columns.", hint)
    else:
        chosen = [each for each in chosen if each.captures] or chosen
        others = [each.name for each in deployment.functions if each.mapping.additions.history]
        if others:
            output.warning(f"Not compared, being histories: {', '.join(others)}. T{HISTORY[1:]}.")
    if not chosen:
        raise CommandError("no function has columns, so that there is nothing to compare.")
    return [_source(deployment, each) for each in chosen]


def _source(deployment: Deployment, function: Function) -> Source:
    target = deployment.targets[function.target_name]
    try:
        return Source(deployment, function, target, target.resolve())
    except TargetError as error:
        raise CommandError(f"{error}.") from error


@contextlib.contextmanager
def connected(source: Source, hint: str = "") -> Iterator[Connector]:
    """Have a connector to a source's database; what goes wrong there is a CommandError with this hint."""
    try:
        connector = connect(source.url, source.target.schema)
        try:
            yield connector
        finally:
            connector.close()
    except ConnectorError as error:
        raise CommandError(f"the database of {source.target.name}: {error}.", hint) from error


def load(file: str, name: str | None) -> Deployment:
    """Return what ``file`` declares, under ``name`` if one is given. Raises CommandError."""
    try:
        return config.load(file, name)
    except DeclarationError as error:
        raise CommandError(str(error), f"gearsync check {file}.") from error


def _chosen(deployment: Deployment, name: str | None) -> Function:
    loadable = [each for each in deployment.functions if _has_fields(each)]
    if name is not None:
        loadable = [each for each in loadable if each.name == name]
    elif any(isinstance(each.pattern, Reading) for each in loadable):
        loadable = [each for each in loadable if isinstance(each.pattern, Reading)]
    if len(loadable) == 1:
        return loadable[0]
    names = ", ".join(each.name for each in deployment.functions if _has_fields(each))
    if name is not None:
        raise CommandError(f"there is no function {name} with columns.", f"one of {names}." if names else "")
    if not loadable:
        raise CommandError(
            "no function of hashes has columns; keys of other types are neither loaded nor verified."
        )
    raise CommandError("several functions could be meant.", f"say which, by --function: {names}.")


def _has_fields(function: Function) -> bool:
    """Whether hashes can be made of the rows of a function."""
    mapping = function.mapping
    if mapping.type != kinds.HASH or mapping.additions.history:
        return False
    return bool(mapping.columns or mapping.additions.rest)


def require_deployed(shards: Shards, deployment: Deployment, functions: Sequence[Function]) -> None:
    """See that each shard has these functions as the file says. Raises CommandError."""
    name = deployment.name
    for shard in shards.shards:
        with errors_of(shard.address):
            deployed = shard.host.deployments().get(name)
        if deployed is None or deployed.state != "active":
            raise CommandError(
                f"{shard.address} has no active deployment {name}.", "deploy it: gearsync deploy FILE."
            )
        with errors_of(shard.address):
            payload = Deployment.from_payload(deployed.payload)
        there = {each.name: each for each in payload.functions}
        for function in functions:
            same = function.name in there and _makes_alike(there[function.name], function)
            same = same and _database(payload, function) == _database(deployment, function)
            if not same or (function.transform_name is not None and payload.source != deployment.source):
                raise CommandError(
                    f"{shard.address} has version {deployed.version} of {name}, in which {function.name} is "
                    "not what the file says.",
                    "deploy the file first: gearsync deploy FILE.",
                )


def _makes_alike(one: Function, other: Function) -> bool:
    """Whether two functions make the same rows of the same keys."""
    more = [
        (each.mapping.type, each.mapping.members, each.mapping.additions, each.transform_name)
        for each in (one, other)
    ]
    return _mapped(one) == _mapped(other) and more[0] == more[1]


def _database(deployment: Deployment, function: Function) -> tuple[str, str | None] | None:
    """Return what a deployment says of where the function's rows are."""
    target = deployment.targets.get(function.target_name)
    return None if target is None else (target.reference, target.schema)


def _mapped(function: Function) -> dict[str, Any]:
    """Return which keys of a function are which rows, as JSON can hold it."""
    mapping = function.mapping
    return {
        "keys": mapping.keys.text,
        "table": mapping.table,
        "columns": dict(mapping.columns),
        "rest": [mapping.additions.rest, mapping.additions.rest_bytes],
        "deleted_at": mapping.additions.deleted_at,
        "db": mapping.db,
    }
