"""``gearsync rollback``: deploy an earlier version again, as a new one."""

from __future__ import annotations

from collections.abc import Iterable

import click

from deploy.commands.deploy import carry_out
from deploy.hosts.base import Deployed
from deploy.options import deploying_options, redis_option
from deploy.output import CommandError
from deploy.reaching import shards as shard
from deploy.reaching.shards import Shards
from deploy.rollout import kept, plan
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError


@click.command()
@click.argument("name")
@redis_option
@click.option(
    "--to", "wanted", metavar="VERSION", type=click.IntRange(min=1), help="Which; else the last that differs."
)
@deploying_options
def command(
    name: str,
    url: str,
    wanted: int | None,
    timeout: float,
    accept_eviction: bool,
    offline: bool,
    only_plan: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Deploy an earlier version of NAME again, as a new version, on every shard or on none.

    Each shard keeps the last five versions, with their requirements and wheels. The way back is that of
    `gearsync deploy`: everything is checked, what changes is shown, no write is lost, and what is destructive
    is asked about.
    """
    with shard.connect(url) as shards:
        chosen = _choose(shards, name, wanted)
    try:
        deployment = Deployment.from_payload(chosen.payload)
    except PayloadError as error:
        raise CommandError(f"version {chosen.version} of {name} can't be deployed: {error}.") from error
    made = plan.make_again(deployment, url=url, accept_eviction=accept_eviction, offline=offline)
    title = f"version {chosen.version} of {name}"
    carry_out(made, title, "FILE", timeout, only_plan, yes, as_json)


def _choose(shards: Shards, name: str, wanted: int | None) -> Deployed:
    found = kept.find(shards, name)
    if found is None:
        raise CommandError(f"there is no deployment {name}.", "`gearsync status` shows those there are.")
    if not found.earlier:
        raise CommandError(
            f"no earlier version of {name} is kept here.", "deploy the older file: gearsync deploy FILE."
        )
    if wanted is not None and wanted not in found.earlier:
        raise CommandError(f"version {wanted} of {name} is not kept.", f"one of {_listed(found.earlier)}.")
    chosen = found.last_other if wanted is None else found.earlier[wanted]
    if chosen is None:
        raise CommandError(
            f"all versions of {name} that are kept ({_listed(found.earlier)}) are as the present one."
        )
    return chosen


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions)))
