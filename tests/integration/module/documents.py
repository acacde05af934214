"""Servers with a JSON type: of the module that GEARSYNC_TEST_REDISJSON names, or of one of the tests' own.

It may name RedisJSON 2.0 and newer, or Valkey's module of the same commands, built for the server under test.
"""

from __future__ import annotations

from pathlib import Path

from tests.choice import redisjson
from tests.integration.module.building import build

#: What stands for such modules, by the kind of its keyspace events.
DOUBLES = {"as of RedisJSON": (), "as of Valkey": ("GENERIC",)}


def kinds() -> list[str]:
    """Return what json_type takes in this run."""
    return ["given"] if redisjson() else list(DOUBLES)


def json_type(folder: Path, kind: str | None = None) -> tuple[str, ...]:
    """Return the options of a server with a JSON type; the one of the tests' own is built in the folder."""
    named = redisjson()
    if named:
        return "--loadmodule", named
    return "--loadmodule", build("documents.c", folder), *DOUBLES[kind or "as of RedisJSON"]
