"""``gearsync init``: a gearsync.toml to begin with."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from connectors import ConnectorError, TargetError, connect
from deploy import output
from deploy.drafts import database, django, models, references, text
from deploy.drafts.draft import Draft
from deploy.drafts.references import Reference
from deploy.output import CommandError, counted
from deploy.progress import Progress


@click.command()
@click.argument("url", metavar="[URL]", required=False)
@click.option("--table", "tables", metavar="TABLE", multiple=True, help="Only this table; may be repeated.")
@click.option(
    "--models",
    "module",
    metavar="MODULE",
    help="Of the tables that this Python module declares to SQLAlchemy, or, if it is the settings of a "
    "Django project, of its models. No database is asked; URL may be left out.",
)
@click.option("--schema", metavar="NAME", help="Where the tables are. Default: the connection's own schema.")
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
def command(
    url: str | None, tables: tuple[str, ...], module: str | None, schema: str | None, path: str, force: bool
) -> None:
    """Write a gearsync.toml to begin with: a function for each table of a database.

    URL is postgresql://user:password@host/database, mysql://… or sqlite:///PATH, or where to find it:
    env:NAME or file:PATH. A password is never written: FILE then refers to a variable, and says how to set
    it. Tables that can't be synced are in FILE too, each with the reason and what to do.
    """
    if url is None and module is None:
        raise click.UsageError("give the URL of the database, or --models.")
    _require_free(path, force)
    try:
        reference = references.find(url) if url is not None else references.unnamed()
        if module is not None:
            made = _of_models(reference, module, tables, schema)
        else:
            made = _of_database(reference, tables, schema)
    except TargetError as error:
        raise click.UsageError(f"{error}.") from error
    except ConnectorError as error:
        raise CommandError(f"{reference.title} can't be asked: {error}.") from error
    _require_entries(made)
    _write(text.render(made, path), path, force)
    _say(made, path)


def _of_database(reference: Reference, tables: Sequence[str], schema: str | None) -> Draft:
    connector = connect(references.require_url(reference), schema)
    try:
        with Progress() as progress:
            progress.show("Reading the tables")
            entries, left_out = database.draft(connector, tables)
    finally:
        connector.close()
    place = f", schema {schema}" if schema else ""
    return Draft(reference, f"{reference.title}{place}", entries, left_out)


def _of_models(reference: Reference, name: str, tables: Sequence[str], schema: str | None) -> Draft:
    loaded = models.load(name)
    if models.is_django(loaded):
        entries, left_out = django.draft(django.models_of(loaded, tables), schema)
        return Draft(reference, f"the models of Django by {name}", entries, left_out)
    found = models.tables_of(loaded, tables, schema)
    entries, left_out = models.draft(found, schema, reference.url)
    return Draft(reference, f"the tables of SQLAlchemy in {name}", entries, left_out)


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


def _say(made: Draft, path: str) -> None:
    left_out = f"; {counted(len(made.left_out), 'table')} left out, see its end" if made.left_out else ""
    output.line(f"{path} is written: {counted(len(made.entries), 'function')}{left_out}.")
    if made.reference.setting:
        output.line()
        masks = " (with the password for ***)" if "***" in made.reference.setting else ""
        output.line(f"Set this here and where the worker runs{masks}:")
        output.line(f"  export {made.reference.setting}")
    output.line()
    output.line("Next:")
    output.line(f"  gearsync check {path}")
    output.line(f"  gearsync deploy {path} --redis URL")
    output.line(f"  gearsync backfill {path} --redis URL   # hashes that are there already")
