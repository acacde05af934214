"""gearsync deadletters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from deploy import options, output
from deploy.letters import export as letter_export
from deploy.letters import retry as letter_retry
from deploy.letters import shown, store
from deploy.letters.store import Choice, Letter
from deploy.reaching import shards

Function = TypeVar("Function", bound=Callable[..., Any])


def _scope(function: Function) -> Function:
    """Add the options that narrow down which letters are meant."""
    function = click.option("--target", metavar="NAME", help="Only those of this target.")(function)
    return click.option("--deployment", metavar="NAME", help="Only those of this deployment.")(function)


def _names(function: Function) -> Function:
    """Add the options that name letters, or all."""
    function = click.option(
        "every", "--all", is_flag=True, help="All of them (within --deployment and --target)."
    )(function)
    return _some(function)


def _some(function: Function) -> Function:
    """Add the options that name letters."""
    function = click.option(
        "keys", "--key", multiple=True, metavar="KEY", help="Those of a key; may be repeated."
    )(function)
    return click.option(
        "ids", "--id", multiple=True, metavar="ID", help="The one with this id; may be repeated."
    )(function)


@click.group(name="deadletters")
def command() -> None:
    """Changes that the database refused for good, with their reasons."""


@command.command(name="list")
@options.redis_option
@options.json_option
@_scope
def list_letters(url: str, as_json: bool, deployment: str | None, target: str | None) -> None:
    """Print the dead letters of all shards.

    The JSON is a list of objects with key, reason, image (the hash as it was), id, op, deployment, target,
    functions, table, column, at and shard.
    """
    with shards.connect(url) as found:
        there = store.read(found, Choice((), (), deployment, target))
    if as_json:
        output.as_json([each.document() for each in there])
    elif there:
        output.table(
            ["id", "key", "column", "reason"],
            [_row(each) for each in there],
            fold=["key", "column", "reason"],
        )
        output.line()
        output.line(
            output.counted(len(there), "dead letter")
            + ". What was refused can be mended (the value or the table), then:"
        )
        output.line("gearsync deadletters retry --all")
    else:
        output.line("There are no dead letters.")


@command.command()
@click.argument("id_", metavar="ID")
@options.redis_option
@options.json_option
@_scope
def show(id_: str, url: str, as_json: bool, deployment: str | None, target: str | None) -> None:
    """Print all of one dead letter: the change, why it was refused, and the row it would have been.

    The row is told by the deployment as it is now: each column with what the hash had for it, before it is
    converted. The JSON is an object as in `list`, with change, epoch, transaction (the id of its first
    change, if one was refused whole; else null), stream, version (of the deployment
    that is there now; null if it is gone) and rows, a list of objects with function, table, columns and note.
    """
    with shards.connect(url) as found:
        chosen = store.read(found, Choice((id_,), (), deployment, target))
        store.require_single(chosen, (id_,))
        document = shown.document(chosen[0])
    if as_json:
        output.as_json(document)
    else:
        shown.print_letter(document)


@command.command()
@options.redis_option
@click.option(
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="A new file for them, which only its owner may read; without it they go to standard output.",
)
@_some
@_scope
def export(
    url: str,
    path: str | None,
    ids: tuple[str, ...],
    keys: tuple[str, ...],
    deployment: str | None,
    target: str | None,
) -> None:
    """Write dead letters as JSON lines, one object a line: all of them, or those that are named.

    Each object is as in `list`, with change, epoch, transaction and stream. Lines are ASCII. A key or a value
    of the image that is no UTF-8 is {"base64": "..."}; in a field's name, each byte that is no UTF-8 is one
    of \\udc80 to \\udcff.
    Letters stay where they are; those that come meanwhile may be among them.
    """
    with shards.connect(url) as found:
        chosen = store.each(found, Choice(ids, keys, deployment, target))
        written = letter_export.write(chosen, path)
    output.status(f"{output.counted(written, 'dead letter')} exported.")


@command.command()
@options.redis_option
@_names
@_scope
def retry(
    url: str,
    ids: tuple[str, ...],
    keys: tuple[str, ...],
    every: bool,
    deployment: str | None,
    target: str | None,
) -> None:
    """Try again: capture the present state of the keys anew.

    What goes to SQL is the hash as it is now, not as it was: an old image never overwrites a newer one. The
    letter is deleted once its key is captured; if the database refuses it again, a new letter comes. Letters
    of one transaction that stays whole are tried together, whichever of them is named.

    Of a key that is gone, a refused deletion is tried again, and a refused write is left alone. If a policy
    may have kept the row, the letter stays, and the exit code is 1; so does that of a deletion, which may be
    older than the row, unless it is named (--id, --key).
    """
    with shards.connect(url) as found:
        chosen = _chosen(found, Choice(ids, keys, deployment, target), every)
        tried = letter_retry.retry(found, chosen, are_named=not every)
    output.line(f"{output.counted(len(tried.retried), 'dead letter')} retried.")
    if tried.left:
        _tell_left(tried)
    if tried.uncovered:
        raise output.CommandError(
            f"no deployment captures {_names_of(tried.uncovered)} any more, so the letters stay.",
            "deploy functions that cover the keys, or gearsync deadletters drop.",
        )
    if tried.left:
        raise SystemExit(1)


def _tell_left(tried: letter_retry.Tried) -> None:
    reasons: dict[str, list[Letter]] = {}
    for letter, reason in tried.left:
        reasons.setdefault(reason, []).append(letter)
    for reason, some in reasons.items():
        if reason == letter_retry.BUSY:
            output.warning(f"{_names_of(some)}: {reason}. The letters stay; try again.")
            continue
        output.warning(
            f"{_names_of(some)}: gone from Redis, and the row may be kept by policy ({reason}). Nothing was "
            "captured, and the letters stay: bring to SQL by hand what is needed of them (gearsync "
            "deadletters show), then gearsync deadletters drop."
        )


def _names_of(some: list[Letter]) -> str:
    names = ", ".join(store.named(letter.key) for letter in some[:5])
    return names + (f" and {len(some) - 5} more" if len(some) > 5 else "")


@command.command()
@options.redis_option
@_names
@_scope
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(
    url: str,
    ids: tuple[str, ...],
    keys: tuple[str, ...],
    every: bool,
    deployment: str | None,
    target: str | None,
    yes: bool,
) -> None:
    """Delete dead letters for good: their rows stay as they are in SQL."""
    with shards.connect(url) as found:
        chosen = _chosen(found, Choice(ids, keys, deployment, target), every)
        if chosen and not yes:
            click.confirm(
                f"Delete {output.counted(len(chosen), 'dead letter')} for good?", abort=True, err=True
            )
        dropped = store.drop(found, chosen)
    output.line(f"{output.counted(dropped, 'dead letter')} dropped.")


def _chosen(found: shards.Shards, choice: Choice, every: bool) -> list[Letter]:
    named = bool(choice.ids or choice.keys)
    if named == every:
        raise click.UsageError("Say which dead letters: --id or --key, or --all.")
    chosen = store.read(found, choice)
    store.require_single(chosen, choice.ids)
    for key in choice.keys:
        if not any(store.named(letter.key) == key for letter in chosen):
            raise output.CommandError(
                f"there is no dead letter of the key {key}.", "see gearsync deadletters list."
            )
    return chosen


def _row(letter: Letter) -> list[object]:
    document = letter.document()
    place = f"{document['table']}.{document['column']}" if document["column"] else document["table"]
    return [letter.id, store.named(letter.key), place, document["reason"]]
