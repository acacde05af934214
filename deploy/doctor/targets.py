"""The databases of a file, or of what is deployed: each is asked once, for all functions that write there."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from connectors import Connector, ConnectorError, Target, TargetError, connect
from deploy.checks import tables
from deploy.checks.findings import Findings
from deploy.doctor import clocks
from deploy.doctor.databases import common, mysql, postgres, sqlite
from deploy.doctor.databases.common import Asked
from deploy.doctor.findings import ERROR, WARNING, Diagnosis, Place
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function

_KINDS: dict[str, Callable[[Asked], None]] = {
    "mysql": mysql.check,
    "postgresql": postgres.check,
    "sqlite": sqlite.check,
}
#: Statements that return the time in UTC as a time without a zone; SQLite has this machine's clock.
_TIMES = {
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "postgresql": "SELECT clock_timestamp() AT TIME ZONE 'UTC'",
}


def check(deployment: Deployment, origin: str, diagnosis: Diagnosis) -> None:
    """Look at each target of a deployment; ``origin`` is the file, or who has it deployed."""
    for name, target in deployment.targets.items():
        functions = [each for each in deployment.functions if each.target_name == name]
        place = diagnosis.at(f"{deployment.name}, target {name}")
        try:
            target.resolve()
        except TargetError as error:
            place.note(
                "not-looked-at",
                f"The database was not looked at: {error}.",
                "Its reference leads nowhere from here; where the worker runs it may.",
                "Run the doctor where the worker runs, with its environment.",
            )
            continue
        _check_target(target, functions, origin, place)


def _check_target(target: Target, functions: list[Function], origin: str, place: Place) -> None:
    findings = Findings()
    connector: Connector | None = None
    try:
        url = tables.resolve(target, origin, findings)
        if url is not None:
            connector = connect(url, target.schema)
            for function in functions:
                tables.check_function(connector, function, origin, findings)
            _ask(connector, functions, place)
    except ConnectorError as error:
        place.error(
            "database-away",
            f"The database can't be asked: {error}.",
            "The worker waits for it, and changes wait in Redis (unless it is only away from here).",
            "See whether it runs, and whether the URL's user may log in.",
        )
    finally:
        if connector is not None:
            connector.close()
    for severity, found in ((ERROR, findings.mistakes), (WARNING, findings.warnings)):
        for mistake in found:
            place.of_mistake(severity, "table", mistake)


def _ask(connector: Connector, functions: list[Function], place: Place) -> None:
    with connector.transaction(reads=True) as connection:
        asked = Asked(connector, connection, functions, place)
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
        place.diagnosis.looked_at.append(f"{place.name} ({connector.backend} {version})")
        statement = _TIMES.get(connector.backend)
        if statement is not None:
            clocks.check(place, lambda: _seconds(asked.value(statement)))
        common.check_unique(asked)
        check_kind = _KINDS.get(connector.backend)
        if check_kind is not None:
            check_kind(asked)


def _seconds(value: Any) -> float | None:
    if not isinstance(value, datetime.datetime):
        return None
    return value.replace(tzinfo=datetime.timezone.utc).timestamp()
