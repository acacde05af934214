"""Plots of figures, as SVG that is readable on a light page and on a dark one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

INK = "#808890"
"""Of texts and axes: as far from white as from black."""
COLORS = ("#2f81f7", "#e3732b", "#2ea36a", "#a371f7", "#d4479a", "#b59f00")
SIZE = (9, 3.4)


class Plot(NamedTuple):
    """What a plot shows: ``kind`` (bars or lines), the columns for the axes and for what has a color of its
    own, and the label of the upright axis. ``log``: which axes are logarithmic (x, y, xy).
    """

    kind: str
    x: str
    y: str
    series: str
    label: str
    log: str = ""


def available() -> bool:
    """Whether there is what draws: ``pip install gearsync[bench]``."""
    try:
        import matplotlib
    except ImportError:
        return False
    return bool(matplotlib)


def draw(plot: Plot, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw rows into an SVG file. Raises ImportError: matplotlib is missing."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    # The same figures give the same file, with texts as texts.
    matplotlib.rcParams.update({"svg.hashsalt": "gearsync", "svg.fonttype": "none", "text.color": INK})
    for name in ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
        matplotlib.rcParams[name] = INK
    figure, axes = pyplot.subplots(figsize=SIZE)
    (_bars if plot.kind == "bars" else _lines)(axes, plot, rows)
    axes.set_ylabel(plot.label)
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in plot.log:
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.12g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=INK, alpha=0.25)
    axes.legend(frameon=False, labelcolor=INK, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    # Trailing spaces are no part of the drawing.
    path.write_text(re.sub(r"[ \t]+$", "", path.read_text(), flags=re.MULTILINE))


def _bars(axes: Any, plot: Plot, rows: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(_name(plot, row) for row in rows))
    series = list(dict.fromkeys(str(row[plot.series]) for row in rows))
    width = 0.8 / len(series)
    for number, of in enumerate(series):
        heights = {_name(plot, row): row[plot.y] for row in rows if str(row[plot.series]) == of}
        places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(names))]
        values = [heights.get(name, 0) for name in names]
        axes.bar(places, values, width * 0.9, label=of, color=COLORS[number % len(COLORS)])
    axes.set_xticks(range(len(names)), names, fontsize="small")


def _name(plot: Plot, row: dict[str, Any]) -> str:
    columns = f"\n{row['columns']} columns" if "columns" in row else ""
    return f"{row[plot.x]}{columns}".replace(", ", "\n").replace(" mixed", "\nmixed")


def _lines(axes: Any, plot: Plot, rows: Sequence[dict[str, Any]]) -> None:
    if "x" in plot.log:
        axes.set_xscale("log")
    if "y" in plot.log:
        axes.set_yscale("log")
    for number, of in enumerate(dict.fromkeys(str(row[plot.series]) for row in rows)):
        points = [(row[plot.x], row[plot.y]) for row in rows if str(row[plot.series]) == of]
        axes.plot(*zip(*points), marker="o", label=of, color=COLORS[number % len(COLORS)])
    axes.set_xlabel(plot.x)
    if "y" not in plot.log:
        axes.set_ylim(bottom=0)
