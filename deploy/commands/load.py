"""gearsync load."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from connectors import Connector
from deploy import options, output
from deploy.loading import run as loading
from deploy.loading.putting import Putter
from deploy.loading.run import Counts, Loading, Place, Total
from deploy.output import CommandError
from deploy.progress import Count
from deploy.reaching import shards
from deploy.sources import Source, choose, connected, require_deployed
from gears.applying.images import RowReader

_AGAIN = "run the same command again: it goes on where it ended."


@dataclass(frozen=True)
class Wish:
    """What is asked for beside the function."""

    where: str
    limit: int | None
    rate: int
    restart: bool
    as_json: bool


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@options.redis_option
@click.option("--name", metavar="NAME", help="The deployment's name, in place of the one in FILE.")
@click.option("--function", metavar="NAME", help="The function whose rows are loaded, when FILE has several.")
@click.option(
    "--where",
    default="",
    metavar="SQL",
    help="Load only rows for which this expression holds. It is the database's own SQL, taken as it stands.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="ROWS", help="Stop after so many rows.")
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=None,
    metavar="ROWS",
    help="Load at most so many rows a second.",
)
@click.option("--restart", is_flag=True, help="Begin anew, wherever an earlier load ended.")
@options.json_option
def command(
    file: str,
    url: str,
    name: str | None,
    function: str | None,
    where: str,
    limit: int | None,
    rate: int | None,
    restart: bool,
    as_json: bool,
) -> None:
    """Fill Redis from the table of a function, ahead of the first reads.

    FILE is what was deployed. Each row becomes a hash, with the ttl of a read-through function. A key that is
    in Redis already is left alone, and so is one of which a change is on its way to SQL: what is newer stays.
    Nothing that is loaded is captured as a change.

    A load that was ended goes on where it was when the same command is run again. Rows that come into the
    table meanwhile, before the place reached, are not loaded.
    """
    source = choose(file, name, function)
    wish = Wish(where, limit, rate or 0, restart, as_json)
    with shards.connect(url) as found:
        require_deployed(found, source.deployment, [source.function])
        try:
            with connected(source, _AGAIN) as connector:
                _load(found, source, connector, wish)
        except KeyboardInterrupt:
            raise CommandError("the load was interrupted.", _AGAIN) from None


def _load(found: shards.Shards, source: Source, connector: Connector, wish: Wish) -> None:
    table = source.function.mapping.table
    reader = RowReader(source.function, connector)
    problem = connector.check_where(table, wish.where) if wish.where else ""
    if problem:
        raise click.BadParameter(f"this is no expression for a WHERE: {problem}.", param_hint="--where")
    place = Place(source.deployment.name, source.function.name, source.scope(wish.where))
    after, counts = _begin(place, found, wish.restart)
    before, start = counts.read, time.monotonic()
    with Putter(found, source.deployment.name, reader, source.ttl_ms) as putter:
        putter.require_ready()
        total = Total(reader, wish.where)
        run = Loading(reader, putter, place, wish.where)
        with Count(f"Loading {table}", "rows", before) as shown:
            finished = run.run(
                after, counts, wish.limit, wish.rate, lambda now: shown.show(now.read, total.rows)
            )
    if total.problem:
        output.status(f"How many rows there are could not be counted: {total.problem}")
    here, seconds = counts.read - before, time.monotonic() - start
    if wish.as_json:
        document = {"deployment": source.deployment.name, "function": source.function.name}
        output.as_json({**document, **loading.document(counts, finished, here, seconds)})
    else:
        _print(counts, finished, here / max(seconds, 0.001))


def _begin(place: Place, found: shards.Shards, restart: bool) -> tuple[list[bytes] | None, Counts]:
    after, counts, is_same = place.read(found)
    if after is None or restart:
        return None, Counts()
    if not is_same:
        raise CommandError(
            "an earlier load of this function has not come to its end, and it was one of other rows (another "
            "--where, table or database).",
            "run that one to its end, or begin anew: --restart.",
        )
    output.status(f"Going on after the {output.counted(counts.read, 'row')} of an earlier run.")
    return after, counts


def _print(counts: Counts, finished: bool, rate: float) -> None:
    made = output.counted(counts.set, "hash", "hashes")
    output.line(f"{output.counted(counts.read, 'row')} read ({rate:,.0f}/s), {made} set.")
    for count, text in (
        (counts.there, "in Redis already, left alone"),
        (counts.waiting, "left alone, as a change of the key is on its way to SQL"),
        (counts.gone, "deleted while they were loaded"),
        (counts.empty, "with NULL in all columns, which no hash can be"),
    ):
        if count:
            output.line(f"  {output.counted(count, 'row')} {text}")
    if counts.unkeyed:
        rows = [", ".join(f"{name} = {value!r}" for name, value in row.items()) for row in counts.named]
        more = "; …" if counts.unkeyed > len(rows) else ""
        unkeyed = output.counted(counts.unkeyed, "row has", "rows have")
        output.warning(f"{unkeyed} no key, as in {counts.reason}: {'; '.join(rows)}{more}.")
    if not finished:
        output.line("These are not all rows: --limit was reached. Run the same command again to go on.")
