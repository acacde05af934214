"""gearsync verify."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

import click

from deploy import options, output, policies
from deploy.output import CommandError
from deploy.pausing import held
from deploy.reaching import shards
from deploy.sources import Source, comparable, connected, require_deployed
from deploy.verifying import siblings
from deploy.verifying.reasons import explain
from deploy.verifying.report import NAMED
from deploy.verifying.run import Scope, Verification
from deploy.verifying.settling import Settings
from deploy.verifying.showing import Outcome, document, show
from deploy.verifying.siblings import Siblings

HELD_SECONDS = 1.0
"""How long to wait for the changes of a function that is paused, with its deployment or alone."""


@dataclass(frozen=True)
class Wish:
    """What is asked for beside the functions."""

    repair: bool
    delete_extra: bool
    sample: int
    named: int
    timeout: float


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@options.redis_option
@click.option("--name", metavar="NAME", help="The deployment's name, in place of the one in FILE.")
@click.option("--function", metavar="NAME", help="Compare the keys of this function only.")
@click.option(
    "--repair", is_flag=True, help="Capture anew the keys that differ, so that SQL gets what Redis has."
)
@click.option(
    "--delete-extra",
    is_flag=True,
    help="With --repair: delete also rows without a key that a policy has kept.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compare N random keys and N random rows only, and say what that tells of all.",
)
@click.option(
    "--show",
    "named",
    type=click.IntRange(min=0),
    default=NAMED,
    show_default=True,
    metavar="N",
    help="Name so many differences.",
)
@click.option(
    "--timeout",
    type=options.Number(min=0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="How many seconds to wait, of keys that differ, for changes that are on their way to SQL.",
)
@options.json_option
def command(
    file: str,
    url: str,
    name: str | None,
    function: str | None,
    repair: bool,
    delete_extra: bool,
    sample: int | None,
    named: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Compare Redis with SQL, while both are written.

    FILE is what was deployed. Each key, of whatever type, is compared with its row or rows, as the worker
    would write them, and each row is looked up in Redis. What differs is looked at again behind the changes
    that are on their way: only what still differs with nothing waiting is reported. A row that may be there
    without its key, because a policy of the function keeps it, is counted apart.

    --repair brings the keys that differ to SQL by the change stream, in their order with all other writes,
    and compares them once more. Exit code 1: differences are left.
    """
    if delete_extra and not repair:
        raise click.UsageError("--delete-extra goes with --repair.")
    wish = Wish(repair, delete_extra, sample or 0, named, timeout)
    sources = comparable(file, name, function)
    with shards.connect(url) as found:
        outcomes = [_verify(found, each, wish) for each in sources]
        explain(found, outcomes)
    if as_json:
        output.as_json([document(each) for each in outcomes])
    else:
        for each in outcomes:
            show(each)
    if any(each.counts.left for each in outcomes):
        raise SystemExit(1)


def _verify(found: shards.Shards, source: Source, wish: Wish) -> Outcome:
    function = source.function
    require_deployed(found, source.deployment, [function])
    if wish.repair and not function.captures:
        raise CommandError(
            f"{function.name} is {function.kind}: nothing brings its hashes to SQL, so that they can't be "
            "repaired by that.",
            "verify without --repair; delete hashes that differ, or gearsync load.",
        )
    kept = policies.kept(source.deployment, function, found) if function.captures else ""
    if wish.delete_extra and function.mapping.on_delete == "keep":
        raise CommandError(
            f'{function.name} has on_delete="keep", so that no change deletes its rows.',
            "delete them by SQL.",
        )
    others = siblings.find(found, source)
    waits = held.held_of(found, function, source.deployment.name)
    settings = Settings(
        source.deployment.name,
        # Nothing comes to SQL of what a pause holds back, however long it is waited for.
        min(wish.timeout, HELD_SECONDS) if waits else wish.timeout,
        wish.named,
        wish.repair,
        "" if wish.delete_extra else kept,
        policies.followed(source.deployment, function),
        "" if wish.delete_extra else others.spared,
    )
    try:
        # What the user's own code prints is none of our results.
        with connected(source) as connector, contextlib.redirect_stdout(sys.stderr):
            transform = source.deployment.transforms().get(function.name)
            scope = Scope(wish.sample, function.captures and not others.unclear)
            run = Verification(found, source, transform, connector, settings, scope, others.writers)
            run.run()
    except KeyboardInterrupt:
        raise CommandError("the comparison was interrupted.", "run the same command again.") from None
    return Outcome(
        source, run.counts, run.seconds, settings.kept, wish.sample, [*_notes(source, run, others), *waits]
    )


def _notes(source: Source, run: Verification, others: Siblings) -> list[str]:
    """Return sentences on what was not compared."""
    notes = []
    if not source.function.captures:
        notes.append("Its hashes are made of rows: those that are in Redis were compared, and no others.")
    elif others.unclear:
        notes.append(f"Extra rows were not looked for, as {others.unclear}.")
    elif run.moves_rows:
        notes.append(
            "Its transform gives rows other keys than those of Redis, so extra rows were not looked for."
        )
    elif run.hides_rows:
        notes.append(
            "Its keys are written otherwise than rows have them (007 for 7, say), so extra rows were not "
            "looked for: only all keys together tell which there are."
        )
    return notes
