"""What the command line prints: data on standard output, progress and status on standard error.

Exit codes: 0 done, 1 the check or the work failed (``CommandError``), 2 wrong usage (click's own errors).
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 80
LEAST_FOLDED = 8
"""The fewest characters of a column that gives way: where it had fewer, it would go altogether."""


class CommandError(click.ClickException):
    """The work failed. ``message`` says what is wrong and where; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Print message and hint to stderr; ``file`` is click's, and not used."""
        console = _console(stderr=True)
        _sentence(console, "Error", self.message, "bold red")
        if self.hint:
            _sentence(console, "Try", self.hint, "bold")


def shown(text: str) -> str:
    """Return ``text`` with an escape for each character that could steer a terminal: keys hold any byte."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else _escape(each) for each in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        # What stands for a byte that is no UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


def status(message: str) -> None:
    """Print a line about what goes on."""
    _console(stderr=True).print(Text(shown(message)), soft_wrap=True)


def warning(message: str) -> None:
    """Print what is not wrong enough to stop."""
    _sentence(_console(stderr=True), "Warning", message, "bold yellow")


def line(message: str = "") -> None:
    """Print one line of data."""
    _console().print(Text(shown(message)), soft_wrap=True)


def heading(message: str) -> None:
    """Print the line that stands over a table."""
    _console().print(Text(shown(message), style="bold"), soft_wrap=True)


def bullets(lines: Iterable[str]) -> None:
    """Print a list of sentences, each folded under itself."""
    for each in lines:
        click.echo(_folded(each, _console().width, "  - "))


def _folded(text: str, width: int, first: str) -> str:
    return textwrap.fill(shown(text), width, initial_indent=first, subsequent_indent="    ")


def notes(title: str, lines: Iterable[tuple[str, Iterable[str]]], err: bool) -> None:
    """Print lines under a title, and below each the sentences about it; ``err``: on standard error."""
    width = _console(stderr=err).width
    _console(stderr=err).print(Text(shown(title), style="bold"), soft_wrap=True)
    for text, sentences in lines:
        click.echo(_folded(text, width, "  "), err=err)
        for each in sentences:
            click.echo(_folded(each, width, "    "), err=err)


def as_json(document: object) -> None:
    """Print a document for programs: JSON, indented, characters as they are where they steer no terminal."""
    # Not each of Python's own escapes, which stand for what an encoding lacks, is one of JSON.
    is_whole = (getattr(sys.stdout, "encoding", None) or "").lower() in ("utf-8", "utf8")
    text = json.dumps(document, indent=2, ensure_ascii=not is_whole)
    # Between texts there is nothing to escape but the ends of lines.
    click.echo("\n".join(map(_tame, text.split("\n"))))


def _tame(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], fold: Sequence[str] = ()) -> None:
    """Print rows under bold headings; a column whose values are all numbers stands right.
    Without any name there is no heading.

    ``fold`` names the columns that give way when the line is too short; the others keep their width. Where
    not even that fits, each row is a list of names and values.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    console = _console()
    if any(columns) and _least_width(columns, cells, fold) > console.width:
        click.echo("\n".join(line for row in cells for line in _record(columns, row, console.width)))
        return
    grid = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", show_header=any(columns)
    )
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(_is_numeric(row[index]) for row in cells)
        folds = name in fold
        grid.add_column(
            name,
            justify="right" if numeric else "left",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    with console.capture() as capture:
        console.print(Padding(grid, (0, 0, 0, 2)))
    # Without the blanks that fill each line.
    click.echo("\n".join(each.rstrip() for each in capture.get().splitlines()))


def _least_width(columns: Sequence[str], cells: Sequence[Sequence[str]], fold: Sequence[str]) -> int:
    """Return how much room a table needs, with columns that fold as narrow as can still be read."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells)]
    least = [min(width, LEAST_FOLDED) if name in fold else width for name, width in zip(columns, widths)]
    return sum(least) + 2 * len(least)


def _record(columns: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """Yield a row as lines, each with the name of its column."""
    for name, cell in zip(columns, row):
        first = "  - " if name == columns[0] else "    "
        yield textwrap.fill(f"{name}: {cell}", width, initial_indent=first, subsequent_indent="      ")


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 change``, ``1,200 changes``; ``many`` is ``one`` with an s unless given."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def progress_console() -> Console:
    """Return the console for rich's progress bars."""
    return _console(stderr=True)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    # A value stays in its line, lest it be taken for more of them.
    return "-" if value is None or value == "" else shown(str(value)).replace("\n", "\\n")


def _is_numeric(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").lstrip("-").isdigit()


def _sentence(console: Console, label: str, message: str, style: str) -> None:
    console.print(Text.assemble((f"{label}:", style), " ", shown(message)), soft_wrap=not console.is_terminal)


def _console(stderr: bool = False) -> Console:
    # Made anew for each print: tests and click's runner replace the streams.
    probe = Console(stderr=stderr, highlight=False)
    if probe.is_terminal:
        return probe
    return Console(stderr=stderr, highlight=False, width=WIDTH_WITHOUT_TERMINAL)
