"""gearsync backfill."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import click

from deploy import barrier, options, output, status
from deploy.backfill import estimate
from deploy.backfill.chosen import Chosen, choose
from deploy.backfill.place import Counts
from deploy.backfill.running import Limits, Running
from deploy.output import CommandError
from deploy.progress import Count
from deploy.reaching import shards
from deploy.reaching.server_errors import ShardError
from deploy.reaching.shards import Shards
from deploy.sources import require_deployed

WAITING = 100_000
_AGAIN = "run the same command again: it goes on where it ended."


@dataclass(frozen=True)
class Outcome:
    """``here``: keys of this run, in ``seconds``. ``in_sql``: None, when nobody has waited for that."""

    counts: Counts
    again: int
    here: int
    seconds: float
    in_sql: bool | None = None
    dead_letters: int = 0


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@options.redis_option
@click.option("--name", metavar="NAME", help="The deployment's name, in place of the one in FILE.")
@click.option(
    "functions",
    "--function",
    metavar="NAME",
    multiple=True,
    help="Only keys of this function; may be repeated. Default: all that bring writes to SQL.",
)
@click.option(
    "--waiting",
    type=click.IntRange(min=1),
    default=WAITING,
    show_default=True,
    metavar="CHANGES",
    help="Wait for SQL while so many changes wait on a shard, or half of what the deployment allows.",
)
@click.option("--rate", type=click.IntRange(min=1), metavar="KEYS", help="At most so many keys a second.")
@click.option("--restart", is_flag=True, help="Begin anew, wherever an earlier backfill ended.")
@click.option("--no-wait", is_flag=True, help="End when all keys are captured, before they are in SQL.")
@click.option(
    "--timeout",
    type=options.Number(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait at the end until the last changes are in SQL.",
)
@options.json_option
def command(
    file: str,
    url: str,
    name: str | None,
    functions: tuple[str, ...],
    waiting: int,
    rate: int | None,
    restart: bool,
    no_wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Bring keys to SQL that were in Redis before their functions, while writes go on.

    FILE is what was deployed. Each hash that a function covers is captured anew and goes the way of every
    change, so that it never comes over a newer one; where a key has a row, fields that the hash lacks become
    NULL. Rows without a key are left alone.

    A backfill that was ended goes on where it was when the same command is run again. A shard that was
    restarted meanwhile is looked through from its beginning, which changes nothing.
    """
    chosen = choose(file, name, functions)
    with shards.connect(url) as found:
        require_deployed(found, chosen.deployment, chosen.functions)
        try:
            done = _backfill(found, chosen, Limits(waiting, rate or 0), restart)
        except KeyboardInterrupt:
            raise CommandError("the backfill was interrupted.", _AGAIN) from None
        except ShardError as error:
            raise CommandError(error.message, f"{error.hint} Then {_AGAIN}".lstrip()) from error
        began = time.monotonic()
        if not no_wait:
            done = _wait(found, chosen.deployment.name, timeout, done)
        passed = time.monotonic() - began
    if as_json:
        output.as_json(_document(chosen, done))
    else:
        _print(chosen, done)
    if done.in_sql is False:
        name = chosen.deployment.name
        raise barrier.in_vain(found, name, timeout, passed, f"gearsync wait --deployment {name}")


def _backfill(found: Shards, chosen: Chosen, limits: Limits, restart: bool) -> Outcome:
    running = Running(found, chosen, limits)
    for sentence in running.begin(restart):
        output.status(sentence)
    before, start = running.counts.scanned, time.monotonic()
    total = estimate.about(found.shards, chosen.scans)
    with Count("Backfill", "keys", before, estimated=True) as shown:

        def tell() -> None:
            scanned = running.counts.scanned
            shown.show(scanned, max(total, scanned) if total else None, running.waits)
            shown.tell(running.problems)

        running.run(tell)
    counts = running.counts
    return Outcome(counts, running.again, counts.scanned - before, time.monotonic() - start)


def _wait(found: Shards, deployment: str, timeout: float, done: Outcome) -> Outcome:
    output.status("All keys are captured. Waiting until they are in SQL.")
    try:
        in_sql = barrier.wait(found, timeout, None, deployment)
    except KeyboardInterrupt:
        raise CommandError(
            "interrupted; all keys are captured, and on their way to SQL.",
            f"gearsync wait --deployment {deployment}.",
        ) from None
    with found.again() as now:
        letters = sum(
            status.dead_letters(each)
            for document in status.fetch(now)
            for each in document["deployments"]
            if each["name"] == deployment
        )
    return replace(done, in_sql=in_sql, dead_letters=letters)


def _document(chosen: Chosen, done: Outcome) -> dict[str, Any]:
    return {
        "deployment": chosen.deployment.name,
        "functions": [each.name for each in chosen.functions],
        **asdict(done.counts),
        "shards_again": done.again,
        "in_sql": done.in_sql,
        "dead_letters": done.dead_letters,
        "seconds": round(done.seconds, 3),
        "keys_per_second": round(done.here / max(done.seconds, 0.001)),
    }


def _print(chosen: Chosen, done: Outcome) -> None:
    counts, name = done.counts, chosen.deployment.name
    rate = f"{done.here / max(done.seconds, 0.001):,.0f}/s"
    output.line(f"{output.counted(counts.scanned, 'key')} scanned ({rate}), {counts.captured:,} captured.")
    for count, text in (
        (counts.gone, "gone before their turn came"),
        (counts.uncovered, "not covered by a function"),
    ):
        if count:
            output.line(f"  {output.counted(count, 'key')} {text}")
    if done.again:
        again = output.counted(done.again, "shard was", "shards were")
        output.line(f"  {again} looked through once more, as keys had moved there")
    if done.in_sql is None:
        output.line(f"They are on their way to SQL: gearsync wait --deployment {name}")
    if done.dead_letters:
        letters = output.counted(done.dead_letters, "dead letter")
        output.warning(f"{name} has {letters}: see gearsync deadletters list --deployment {name}.")
