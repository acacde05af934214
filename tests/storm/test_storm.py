"""One storm over everything: random writes of many clients, and random faults of all that there is.

The short form runs with the other tests, for some seconds. ``make soak``, or ``--storm-minutes``, runs the
long one, on each topology over each database; the seed that it prints plays it again.
"""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest

from tests.choice import find_binary
from tests.form import DATABASES
from tests.storm.storm import TOPOLOGIES, Storm, Weather

#: Two faults of each track; tables that change need a repair, which takes longer than all the rest.
SHORT = Weather("standalone", "sqlite", seed=7, seconds=30, pace=0.1, most=2, without="schema")

pytestmark = [pytest.mark.chaos]


def _live(weather: Weather, folder: Path) -> None:
    findings = Storm(weather, folder).live()
    assert not findings, "\n".join([str(weather), *findings])
    # SQLAlchemy leaves a connection that is cut in the midst of being made to this, and drivers warn of it.
    gc.collect()


def test_a_short_storm(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """What a run for minutes does, in some seconds; with a seed of its own, so that each run is the same."""
    if request.config.getoption("storm_minutes"):
        pytest.skip("the long form runs")
    _live(SHORT, tmp_path)


@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("topology", sorted(TOPOLOGIES))
def test_storm(topology: str, database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Minutes, or hours; with a seed that is new each time unless it is given."""
    minutes = request.config.getoption("storm_minutes")
    if not minutes:
        pytest.skip("only for --storm-minutes")
    if database != "sqlite" and find_binary(database) is None:
        pytest.skip(f"there is no {database} server on this machine that could be killed")
    seed = request.config.getoption("storm_seed") or random.randrange(1, 1 << 30)
    only = request.config.getoption("storm_only")
    _live(Weather(topology, database, int(seed), 60 * float(minutes), only=only), tmp_path)
