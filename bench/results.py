"""How a benchmark tells what it measured: rows of figures, as an aligned table, and kept for the page."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.plots import Plot

Row = dict[str, Any]
Run = Callable[[bool], list[Row]]

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
"""Where figures are kept that the page shows."""


def median(values: Sequence[float]) -> float:
    """Return the median, the figure to quote from a noisy machine."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows with the same columns as a table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in rows[0] if rows else ():
        numeric = isinstance(rows[0][name], (int, float))
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(text(value) for value in row.values()))
    Console().print(table)


def text(value: object) -> str:
    """Return a figure as people read it."""
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine() -> str:
    """Say what the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def save(name: str, title: str, rows: Sequence[Row], plot: Plot | None, quick: bool) -> None:
    """Keep the figures of one benchmark for the page."""
    FOLDER.mkdir(exist_ok=True)
    document = {
        "title": title,
        "day": datetime.date.today().isoformat(),
        "machine": machine(),
        "quick": quick,
        "plot": None if plot is None else plot._asdict(),
        "rows": list(rows),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def main(name: str, title: str, run: Run, plot: Plot | None = None) -> None:
    """Run one benchmark as a command: ``--quick`` for a short run, ``--json FILE`` for the bare figures,
    ``--save`` to keep them for docs/benchmarks.md (``python -m bench.page`` writes it).
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="a short run, with more noise")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--save", action="store_true", help="keep the figures for docs/benchmarks.md")
    options = parser.parse_args()
    rows = run(options.quick)
    show(title, rows)
    if options.json:
        options.json.write_text(json.dumps({title: rows}, indent=1))
    if options.save:
        save(name, title, rows, plot, options.quick)
