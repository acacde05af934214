"""Write docs/cli.md from the commands themselves: ``make docs``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from deploy.cli import group

HEAD = """\
# The command line

This page is made from the commands (`make docs`), and a test holds it current.

Exit codes: 0 done, 1 the check or the work failed, 2 wrong usage. Results go to standard output, progress
and errors to standard error. Each option can be given by an
environment variable instead, which is named beside it.
"""


def text() -> str:
    """Return the page."""
    root = click.Context(group, info_name="gearsync", auto_envvar_prefix="GEARSYNC")
    return "\n".join([HEAD, *(_section(context) for context in commands(root))])


def commands(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command below ``context``, groups before their commands."""
    command = context.command
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None  # noqa: S101 (for mypy)
        inner = click.Context(child, info_name=name, parent=context)
        yield inner
        yield from commands(inner)


def _section(context: click.Context) -> str:
    command = context.command
    lines = [f"## {context.command_path}", "", *_paragraphs(command.help or ""), ""]
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines += ["```", usage, "```", ""]
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        lines += ["| option | meaning | variable |", "| --- | --- | --- |"]
        lines += [_row(option, context) for option in options]
        lines.append("")
    return "\n".join(lines)


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    names = record[0] if record else ", ".join(option.opts)
    cells = (f"`{names}`", _meaning(option, context), f"`{_variable(option, context)}`")
    return "| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in cells))


def _meaning(option: click.Option, context: click.Context) -> str:
    default = option.get_default(context, call=False)
    shown = ""
    if option.show_default and default is not None and not option.is_flag:
        shown = f" Default: `{default}`."
    return " ".join((option.help or "").split()) + shown


def _variable(option: click.Option, context: click.Context) -> str:
    if option.envvar:
        return str(option.envvar)
    return f"{context.auto_envvar_prefix}_{(option.name or '').upper()}"


def _paragraphs(help_text: str) -> list[str]:
    return inspect.cleandoc(help_text).replace("\b\n", "").split("\n")


if __name__ == "__main__":
    click.echo(text(), nl=False)
