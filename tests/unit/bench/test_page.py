"""The page of the benchmarks is written from figures that are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench import page, plots, results
from bench.__main__ import BENCHMARKS
from bench.plots import Plot

ROWS = [
    {"database": "a|b", "size": 10, "rate": 1234, "ratio": 0.5},
    {"database": "c", "size": 100, "rate": 99, "ratio": 1.0},
]


def test_figures_come_into_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    results.save("drain", "Drain", ROWS, Plot("lines", "size", "ratio", "database", "ratio", "x"), True)
    places = (("drain", "old"), ("lag", "kept"))
    before = "".join(f"<!-- figures: {name} -->\n{said}\n<!-- end of figures -->\n" for name, said in places)
    made = page.written(before, tmp_path)
    assert "| a\\|b | 10 | 1,234 | 0.50 |\n" in made
    assert "| --- | ---: | ---: | ---: |\n" in made
    assert "old" not in made and "kept" in made
    assert "![Drain](figures/drain.svg)" in made and "a quick run" in made
    # Once more changes nothing.
    assert page.written(made, tmp_path) == made


def test_the_page_has_a_place_for_each_benchmark() -> None:
    places = set(re.findall(r"<!-- figures: (\w+) -->", page.PAGE.read_text()))
    assert places == set(BENCHMARKS) - {"memory"}


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_a_plot_is_drawn(kind: str, tmp_path: Path) -> None:
    if not plots.available():
        pytest.skip("matplotlib is not installed")
    plots.draw(Plot(kind, "size", "ratio", "database", "ratio"), ROWS, tmp_path / "plot.svg")
    assert "a|b" in (tmp_path / "plot.svg").read_text()


def test_kept_figures_are_figures() -> None:
    for kept in results.FOLDER.glob("*.json"):
        document = json.loads(kept.read_text())
        assert document["rows"] and kept.stem in BENCHMARKS
