"""``gearsync init``: a gearsync.toml to begin with, and the tables that it lacks."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from click.core import ParameterSource

from connectors import ConnectorError, TargetError, connect
from deploy import output
from deploy.drafts import creation, making, references, text
from deploy.drafts.draft import Draft
from deploy.drafts.making import Missing, Sample
from deploy.options import redis_option_as
from deploy.output import CommandError, counted
from deploy.progress import Progress

#: How many keys are sampled where no number is given.
KEYS = 10_000


@click.command()
@click.argument("url", metavar="[URL]", required=False)
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this table; may be repeated.")
@click.option("--schema", metavar="NAME", help="Where the tables are. Default: the connection's own schema.")
@click.option(
    "--models",
    "module",
    metavar="MODULE",
    help="Of the tables that this Python module declares to SQLAlchemy, or, if it is the settings of a "
    "Django project, of its models. No database is asked; URL may be left out.",
)
@redis_option_as("redis_url")
@click.option(
    "--sample",
    "most",
    metavar="[N]",
    type=click.IntRange(1, 1_000_000),
    is_flag=False,
    flag_value=KEYS,
    help=f"Of the hashes in Redis: look at N of them at most, or {KEYS:,}, and find their tables, or propose "
    "new ones.",
)
@click.option(
    "--from",
    "source",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="With --create-tables: for the functions that FILE declares. No file is written.",
)
@click.option(
    "--create-tables",
    is_flag=True,
    help="Print the SQL that makes the tables which are missing, with types by what is sampled.",
)
@click.option("--apply", is_flag=True, help="Run that SQL. Nothing is ever dropped or altered.")
@click.option(
    "--out",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    default="gearsync.toml",
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@click.pass_context
def command(
    ctx: click.Context,
    url: str | None,
    tables: tuple[str, ...],
    schema: str | None,
    module: str | None,
    redis_url: str,
    most: int | None,
    source: str | None,
    create_tables: bool,
    apply: bool,
    path: str,
    force: bool,
) -> None:
    """Write a gearsync.toml to begin with: a function for each table of a database.

    URL is postgresql://user:password@host/database, mysql://… or sqlite:///PATH, or where to find it:
    env:NAME or file:PATH. A password is never written: FILE then refers to a variable, and says how to set
    it. Tables that can't be synced are in FILE too, each with the reason and what to do.
    """
    _check_usage(ctx)
    if source is None:
        _require_free(path, force)
    sample = Sample(redis_url, most or KEYS)
    made: Draft | None = None
    missing: list[Missing] = []
    try:
        reference = references.find(url) if url is not None else references.unnamed()
        with Progress() as progress:
            if source is not None:
                given = None if url is None else references.require_url(reference)
                missing = making.of_file(source, given, sample, progress.show)
            elif most is not None:
                made, proposed = making.of_sample(reference, sample, tables, schema, progress.show)
                missing = [proposed] if proposed.tables else []
            elif module is not None:
                made = making.of_models(reference, module, tables, schema)
                if create_tables:
                    missing = [making.missing_of_models(reference, module, tables, schema)]
            else:
                made = making.of_database(reference, tables, schema, progress.show)
        if made is not None:
            _require_entries(made)
            _write(text.render(made, path), path, force)
        if create_tables:
            _create(missing, apply)
    except TargetError as error:
        raise click.UsageError(f"{error}.") from error
    except ConnectorError as error:
        raise CommandError(f"{reference.title} can't be asked: {error}.") from error
    if made is not None:
        _say(made, path, [] if apply else missing)


def _check_usage(ctx: click.Context) -> None:
    """See that the options make sense together. Raises UsageError."""
    given = ctx.params
    if given["url"] is None and given["module"] is None and given["source"] is None:
        raise click.UsageError("give the URL of the database, or --models.")
    kinds = [name for name, key in (("--sample", "most"), ("--models", "module")) if given[key] is not None]
    if len(kinds) > 1:
        raise click.UsageError("--sample and --models are two ways: choose one.")
    if given["source"] is not None and (not given["create_tables"] or given["module"] is not None):
        raise click.UsageError("--from is for --create-tables, which samples the keys of its functions.")
    if given["apply"] and not given["create_tables"]:
        raise click.UsageError("--apply is for --create-tables.")
    if given["create_tables"] and not kinds and given["source"] is None:
        raise click.UsageError("--create-tables is for --sample, --models or --from: they tell the columns.")
    if given["create_tables"] and given["module"] is not None and given["url"] is None:
        raise click.UsageError("--create-tables needs the URL of the database.")
    is_typed = ctx.get_parameter_source("redis_url") == ParameterSource.COMMANDLINE
    if is_typed and given["most"] is None and given["source"] is None:
        raise click.UsageError("--redis is for --sample.")


def _create(every: Sequence[Missing], apply: bool) -> None:
    """Print the SQL of missing tables, or run it."""
    if not any(each.tables for each in every):
        output.line("No table is missing.")
    for each in every:
        if not apply:
            for statement in creation.statements(each.tables, each.url.get_dialect()()):
                output.line(f"{statement};")
                output.line()
        elif each.tables:
            connector = connect(each.url, each.schema)
            try:
                creation.create(connector, each.tables)
            finally:
                connector.close()
            output.line(f"Created: {', '.join(table.name for table in each.tables)}.")


def _require_entries(made: Draft) -> None:
    """A file without a function is none: say why there is none, where that is short."""
    if made.entries:
        return
    reasons = [f"{each.name}: {each.reason}." for each in made.left_out[:5]]
    raise CommandError("\n".join([f"there is nothing to sync in {made.source}.", *reasons]))


def _require_free(path: str, force: bool) -> None:
    if not force and os.path.lexists(path):
        raise CommandError(
            f"{path} is there already.", "name another with --out, or write over it with --force."
        )


def _write(content: str, path: str, force: bool) -> None:
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        _require_free(path, force)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}.") from error


def _say(made: Draft, path: str, missing: Sequence[Missing]) -> None:
    left_out = f"; {len(made.left_out)} left out, see its end" if made.left_out else ""
    output.line(f"{path} is written: {counted(len(made.entries), 'function')}{left_out}.")
    if made.reference.setting:
        output.line()
        masks = " (with the password for ***)" if "***" in made.reference.setting else ""
        output.line(f"Set this here and where the worker runs{masks}:")
        output.line(f"  export {made.reference.setting}")
    output.line()
    output.line("Next:")
    if any(each.tables for each in missing):
        names = ", ".join(table.name for each in missing for table in each.tables)
        output.line(f"  gearsync init --from {path} --create-tables --apply   # makes {names}")
    output.line(f"  gearsync check {path}")
    output.line(f"  gearsync deploy {path} --redis URL")
    output.line(f"  gearsync backfill {path} --redis URL   # hashes that are there already")
