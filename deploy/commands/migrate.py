"""``gearsync migrate``: the functions for a recipe that was written for rgsync."""

from __future__ import annotations

from pathlib import Path

import click

from deploy import output
from deploy.migration import recipe, text, translation
from deploy.output import CommandError, counted

_NO_OPERATIONS = (
    "the field # (rgsync's operations and acknowledgments) is a field as any other to these functions"
)
_WITHOUT_OPERATIONS = (
    f"{_NO_OPERATIONS}; where clients write it, run this with --operations, see docs/from-rgsync.md."
)
_WITH_OPERATIONS = (
    "the field # is an operation to these functions, for which the module needs Redis 7.2 or newer, or "
    "Valkey; what differs from rgsync is in docs/from-rgsync.md."
)


@click.command()
@click.argument("file", metavar="RECIPE.py", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(),
    envvar="GEARSYNC_MIGRATE_OUTPUT",
    help="Write to a new FILE.",
)
@click.option(
    "--keys",
    metavar="NAME=TEMPLATE",
    multiple=True,
    help="The key template of the declaration NAME, where the recipe does not tell it.",
)
@click.option(
    "--operations",
    is_flag=True,
    envvar="GEARSYNC_MIGRATE_OPERATIONS",
    help="Keep the field # as rgsync has it: the functions are written with operations=True.",
)
@click.option(
    "--through",
    is_flag=True,
    envvar="GEARSYNC_MIGRATE_THROUGH",
    help="Write the functions of write-through, which need a deployment of their own.",
)
def command(file: str, path: str | None, keys: tuple[str, ...], operations: bool, through: bool) -> None:
    """Print the functions.py that does what a recipe written for rgsync 1.2 does.

    RECIPE.py is run in this process, but neither rgsync nor RedisGears, Redis or a database is there: what it
    declares to rgsync is noted and translated. What has no counterpart is named, and the rest is still
    written; the exit code is then 1. A recipe of both kinds becomes two files, that of write-through by
    --through. No password is written: a database is a variable, and what to set it to is said.
    """
    recording = recipe.run(file)
    names = {str(each.name) for each in recording.calls}
    found = translation.translate(recording, _templates(keys, names), through)
    is_behind = any(each.declared == "WriteBehind" for each in found.functions)
    found.operations = operations and is_behind
    count = len(found.refusals)
    for sentence in (*found.warnings, *found.refusals):
        output.warning(sentence)
    if not found.functions:
        raise CommandError(f"{file} declares nothing to rgsync that gearsync can do.")
    _write(text.render(found, file), path)
    for sentence in text.variable_sentences(found):
        masked = ", with the password for ***" if "***" in sentence else ""
        output.status(f"Set where the worker runs{masked}: {sentence}")
    if is_behind:
        output.warning(_WITH_OPERATIONS if operations else _WITHOUT_OPERATIONS)
    else:
        output.warning(f"{_NO_OPERATIONS}.")
    if count:
        raise CommandError(f"{counted(count, 'part')} of {file} {'is' if count == 1 else 'are'} not written.")


def _templates(given: tuple[str, ...], names: set[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, template = each.partition("=")
        if not equals:
            raise click.BadParameter(f"{each!r} is not NAME=TEMPLATE.", param_hint="--keys")
        if name not in names:
            raise CommandError(f"the recipe declares no {name}.", f"one of {', '.join(sorted(names))}.")
        found[name] = template
    return found


def _write(functions: str, path: str | None) -> None:
    if path is None:
        click.echo(functions, nl=False)
        return
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(functions)
    except FileExistsError:
        raise CommandError(f"{path} is there already.", "name a new file, or remove that one.") from None
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}.") from error
    output.status(f"{path} is written.")
