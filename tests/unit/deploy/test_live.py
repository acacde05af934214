"""The terminal view: what stands on the screen, at the widths of screens."""

from __future__ import annotations

import io
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from deploy.cli import group
from deploy.watching import live
from deploy.watching.figures import Sampler
from tests.unit.deploy.test_figures import AWAY, status


def screen(width: int, *looks: dict[str, Any]) -> list[str]:
    """Return the lines of a screen after looks at documents, one a second."""
    sampler = Sampler()
    for at, document in enumerate(looks):
        found = sampler.feed([document], float(at))
    console = Console(file=io.StringIO(), width=width, highlight=False)
    with console.capture() as capture:
        console.print(live.view(found, len(looks) - 1.0, 1.0, width))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_screen_has_all_figures_in_its_width(width: int) -> None:
    lines = screen(width, status(0, 0), status(123_456, 100_000))

    assert max(map(len, lines)) <= width
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert rows["crm"] == ["crm", "v3", "running", "123k", "100k", "7", "1", "9", "4", "█"]
    assert rows["→"] == ["→", "a", "running", "123k", "100k", "7", "1", "9", "4", "█"]
    assert rows["people"] == ["people", "running", "123k", "100k", "█"]
    assert any("the backlog is at 70% of its limit" in line for line in lines)


def test_a_long_name_and_an_error_do_not_push_the_figures_out() -> None:
    document = status(5, 5)
    deployment = document["deployments"][0]
    deployment["functions"][0]["name"] = "x" * 100
    told = deployment["worker"]["report"]["targets"]["a"]
    told.update(state="waiting", last_error="connection refused \x1b[2J")
    lines = screen(80, document, document)
    assert max(map(len, lines)) <= 80
    assert any(line.split()[1:] == ["waiting", "0", "0", "▁"] for line in lines if "xxx" in line)
    assert any("a: connection refused \\x1b[2J" in line for line in lines)


def test_a_shard_that_is_away_says_so() -> None:
    assert [line.strip() for line in screen(80, status(), AWAY)][-2:] == ["h:1  away", AWAY["error"]]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *[(None, "-"), (0, "0"), (0.5, "0.5"), (999, "999"), (1000, "1.0k"), (99_949, "99.9k")],
        *[(123_456, "123k"), (999_400, "999k"), (999_600, "1.0M"), (4.5e9, "4.5G")],
    ],
)
def test_numbers_are_short(number: float | None, text: str) -> None:
    assert live.short(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0.4, "0.4"), (12, "12"), (1500, "1.5s"), (45_000, "45s"), (300_000, "5m"), (4e7, "11h")],
)
def test_times_are_short(number: float | None, text: str) -> None:
    assert live.milliseconds(number) == text


def test_a_graph_keeps_bursts_and_leaves_out_what_is_not_known() -> None:
    sampler = Sampler()
    for second, captured in [(0, 0), (100, 0), (101, 1000), (290, 1000), (299, 1000)]:
        (shard,) = sampler.feed([status(captured)], float(second))
    graph = live.sparkline(shard.deployments[0].history, 299.0, 10)
    assert len(graph) == 10
    assert (graph[3], graph[4], graph[9]) == ("█", " ", "▁")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status", "--watch"], "--watch needs a terminal; for programs, add --json."),
        (["status", "--watch", "--check"], "--check looks once, --watch for ever; give one of them."),
        (["metrics", "--listen", "9464"], "'9464' is not HOST:PORT, such as 127.0.0.1:9464"),
        (["worker", "--metrics-listen", "h:99999"], "'h:99999' is not HOST:PORT"),
    ],
)
def test_wrong_usage(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 2
    assert sentence in done.output
