"""Which version `gearsync rollback` goes back to."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.commands import rollback
from deploy.hosts.base import Deployed
from deploy.output import CommandError
from deploy.reaching.shards import Shards


def version(number: int, table: str, state: str = "replaced") -> Deployed:
    return Deployed("people", number, state, json.dumps({"version": number, "table": table}))


def chosen(present: Deployed, *kept: Deployed, to: int | None = None) -> int:
    host = SimpleNamespace(deployments=lambda: {"people": present}, versions=lambda _: list(kept))
    shards: Any = SimpleNamespace(shards=[SimpleNamespace(address="a", host=host)])
    return rollback._choose(cast(Shards, shards), "people", to).version


def test_the_last_one_that_differs_is_chosen() -> None:
    present = version(4, "c", "active")
    kept = version(1, "a"), version(2, "b"), version(3, "c")
    assert (chosen(present, *kept), chosen(present, *kept, to=1)) == (2, 1)


def test_what_was_taken_back_is_no_earlier_version() -> None:
    """A shard refused version 3, so that the others have version 2 again."""
    present = version(2, "b", "active")
    kept = version(1, "a"), version(2, "b"), version(3, "c")
    assert chosen(present, *kept) == 1
    with pytest.raises(CommandError, match="not kept"):
        chosen(present, *kept, to=3)
    with pytest.raises(CommandError, match="no earlier version"):
        chosen(present, *kept[1:])
