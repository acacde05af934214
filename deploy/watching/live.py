"""The terminal view of ``gearsync status --watch``: figures as lines that fit the screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy import output
from deploy.watching.figures import (
    Backlog,
    DeploymentFigures,
    FunctionFigures,
    History,
    Lag,
    ShardFigures,
    TargetFigures,
)

BARS = " ▁▂▃▄▅▆▇█"
GRAPH_SECONDS = 300.0
#: Columns of a screen from which the graph gets more than its least.
NARROW, GRAPH_LEAST, GRAPH_MOST = 80, 10, 40
#: The columns of figures, with their least widths; what is left of the line is for names and the graph.
STATE_WIDTH = 9
NUMBERS = (("in/s", 5), ("out/s", 5), ("waits", 5), ("p50", 4), ("p99", 5), ("dead", 4))
NAME_LEAST, NAME_MOST = 16, 40
SOUND = frozenset({"running", "active"})
WAITS = frozenset({"starting", "installing", "draining", "waiting", "paused", "resuming"})


def view(shards: Sequence[ShardFigures], at: float, interval: float, width: int) -> RenderableType:
    """Return what the screen shows at a time (of the figures' clock)."""
    graph = min(GRAPH_MOST, GRAPH_LEAST + max(0, width - NARROW) // 2)
    figures = sum(each + 1 for _, each in NUMBERS) + STATE_WIDTH + 1
    name = min(NAME_MOST, max(NAME_LEAST, width - graph - figures - 1))
    parts: list[RenderableType] = [
        Text(f"every {interval:g} s · graph: changes in, 5 min · q ends", style="dim")
    ]
    for shard in shards:
        parts += [Text(), *_shard(shard, at, name, graph)]
    return Group(*parts)


def sparkline(history: History, at: float, width: int) -> str:
    """Return a graph of the changes captured over the last minutes, as wide as asked; blanks: not known."""
    span = GRAPH_SECONDS / width
    buckets: list[list[float]] = [[] for _ in range(width)]
    for sample in history:
        place = width - 1 - int((at - sample.at) / span)
        if 0 <= place < width and sample.rate_in is not None:
            buckets[place].append(sample.rate_in)
    # The most of each: a burst of a second is worth seeing.
    peaks = [max(each) if each else None for each in buckets]
    top = max((each for each in peaks if each is not None), default=0.0)
    return "".join(_bar(each, top) for each in peaks)


def _bar(value: float | None, top: float) -> str:
    if value is None:
        return BARS[0]
    return BARS[1] if value <= 0 or top <= 0 else BARS[1 + round(value / top * (len(BARS) - 2))]


def short(number: float | None) -> str:
    """Return a number in at most five characters: 999, 12.3k, 4.5M; ``-`` for None."""
    if number is None:
        return "-"
    if number < 1000:
        return f"{number:.1f}" if 0 < number < 10 and number != int(number) else f"{number:.0f}"
    for unit in "kMG":
        number /= 1000
        if number < 999.5 or unit == "G":
            return f"{number:.1f}{unit}" if number < 99.95 else f"{number:.0f}{unit}"
    return ""


def milliseconds(number: float | None) -> str:
    """Return a time given in ms in at most five characters: 12, 1.5s, 4m, 3h; ``-`` for None."""
    if number is None or number < 999.5:
        return short(number)
    seconds = number / 1000
    if seconds < 99.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 5970 else f"{seconds / 3600:.0f}h"


# -- One shard ---------------------------------------------------------------------------------------------


def _shard(shard: ShardFigures, at: float, name: int, graph: int) -> Iterator[RenderableType]:
    if not shard.up:
        yield Text.assemble((output.shown(shard.address), "bold"), ("  away", "bold red"))
        yield Text(f"  {output.shown(shard.error)}", style="red")
        return
    yield Text(f"{shard.address}  {shard.role}, server {shard.server}", style="bold")
    if not shard.deployments:
        yield Text("  Nothing is deployed here.")
        return
    table = _table(name, graph)
    for deployment in shard.deployments:
        _add_deployment(table, deployment, at, graph)
    yield table
    for deployment in shard.deployments:
        yield from _errors(deployment)


def _table(name_width: int, graph: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", width=name_width, no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True, width=STATE_WIDTH)
    for name, width in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True, width=width)
    table.add_column("", no_wrap=True, width=graph)
    return table


def _add_deployment(table: Table, deployment: DeploymentFigures, at: float, graph: int) -> None:
    name = f"{deployment.name} v{deployment.version}"
    line = sparkline(deployment.history, at, graph)
    table.add_row(
        Text(output.shown(name), style="bold"),
        _state(deployment.worker.state if deployment.state == "active" else deployment.state),
        short(deployment.flow.rate_in),
        short(deployment.flow.rate_out),
        _backlog(deployment.backlog),
        *_lag(deployment.lag),
        _dead(deployment.dead_letters),
        Text(line, style="cyan"),
    )
    for target in deployment.targets:
        functions = [each for each in deployment.functions if each.target == target.name]
        _add_target(table, target, at, graph)
        for function in functions:
            _add_function(table, function, at, graph)


def _add_target(table: Table, target: TargetFigures, at: float, graph: int) -> None:
    table.add_row(
        Text(f" → {output.shown(target.name)}"),
        _state(target.state),
        short(target.flow.rate_in),
        short(target.flow.rate_out),
        short(target.backlog.entries),
        *_lag(target.lag),
        _dead(target.dead_letters),
        Text(sparkline(target.history, at, graph), style="cyan"),
    )


def _add_function(table: Table, function: FunctionFigures, at: float, graph: int) -> None:
    table.add_row(
        Text(f"   {output.shown(function.name)}"),
        _state(function.state),
        short(function.flow.rate_in),
        short(function.flow.rate_out),
        short(function.held) if function.held else "",
        "",
        "",
        "",
        Text(sparkline(function.history, at, graph), style="cyan"),
    )


def _state(state: str) -> Text:
    style = "green" if state in SOUND else "yellow" if state in WAITS else "bold red"
    return Text(state, style=style)


def _lag(lag: Lag) -> tuple[str, str]:
    return milliseconds(lag.p50_ms), milliseconds(lag.p99_ms)


def _dead(count: int) -> Text:
    return Text(short(count), style="bold red" if count else "")


def _backlog(backlog: Backlog) -> Text:
    style = "bold red" if backlog.full else "yellow" if backlog.share >= 0.5 else ""
    return Text(short(backlog.entries), style=style)


def _errors(deployment: DeploymentFigures) -> Iterator[RenderableType]:
    """Say what is in the way, of each target, and how full the backlog is when that is worth a line."""
    if deployment.backlog.share >= 0.5:
        full = f"{deployment.backlog.share:.0%} of its limit"
        yield Text(f"  {deployment.name}: the backlog is at {full}.", style="yellow")
    told = {each.last_error: each.name for each in deployment.targets if each.last_error}
    if deployment.last_error and deployment.last_error not in told:
        told[deployment.last_error] = deployment.name
    for error, name in told.items():
        yield Text(f"  {output.shown(name)}: {output.shown(error)}", style="red")
