"""Hostile hashes, from Redis to SQL: what fits arrives, what does not is one dead letter that says why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.form import SOAK
from tests.integration.deploying import eventually
from tests.integration.hostile.cases import TYPED_TABLE, Case
from tests.integration.hostile.kinds import EVERYWHERE
from tests.integration.hostile.world import Rows, World, wrong_letters, wrong_rows

CASES = 3_400 if SOAK else 500
SEED = int(os.environ.get("GEARSYNC_SEED", "1"))

pytestmark = pytest.mark.timeout(1800 if SOAK else 240)


def rows_of(cases: Sequence[Case], mended: bool = False) -> Rows:
    """What must be in SQL, at first or once all that can be was mended."""
    rows: Rows = {name: {} for name in (TYPED_TABLE, "texts", "binaries", "pairs", "wholes")}
    for case in cases:
        row = case.mended if mended and case.letter and case.mended else case.row
        if row is not None:
            rows[case.table][case.identity] = row
    return rows


def assert_none(problems: Iterable[str]) -> None:
    found = list(problems)
    assert not found, "\n".join(each.encode("unicode_escape").decode() for each in found[:40])


def assert_tame(text: str) -> None:
    """Nothing in ``text`` steers a terminal."""
    assert {each for each in text if not each.isprintable()} <= {"\n"}


def check_output(world: World) -> None:
    """Print what there is, in each way; none of it may reach a terminal as it is."""
    for command in (["deadletters", "list"], ["status"]):
        assert_tame(world.cli(*command) + world.cli(*command, "--json"))
    assert_tame(world.cli("deadletters", "retry", "--key", "\x1b[31m\udcff\x9b\u202e", code=1))


def retry(world: World, letters: int | None = None) -> bool:
    """Retry all dead letters, of which there are so many; return False."""
    printed = world.cli("deadletters", "retry", "--all")
    if letters is not None:
        assert printed == f"{letters:,} dead letter{'' if letters == 1 else 's'} retried.\n"
    world.system.wait(90)
    return False


@pytest.mark.parametrize("database", EVERYWHERE)
def test_hostile(host: str, database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    world = World(database, request.getfixturevalue(f"{database}_url"), tmp_path, SEED, host)
    with world.system:
        pids = world.pids()
        # RedisGears cuts a key at its first NUL byte.
        cases = [each for each in world.maker.cases(CASES) if host == "module" or b"\0" not in each.key]
        bad = [case for case in cases if case.letter]
        world.run([command for case in cases for command in case.commands])
        assert_none([*wrong_letters(cases, world.letters()), *wrong_rows(rows_of(cases), world.rows())])
        assert world.system.status()["missed"] == sum(
            case.table == "pairs" and case.row is None for case in cases
        )
        check_output(world)

        world.run([("HSET", case.key, *_flat(case.mend)) for case in bad if case.mend])
        assert_none(wrong_letters(cases, world.letters()))
        world.widen_texts()
        retry(world, len(bad))
        left = [case for case in bad if case.mended is None]
        # The worker may have looked at the tables just before they changed.
        eventually(lambda: len(world.letters()) == len(left) or retry(world))
        assert_none([*wrong_letters(left, world.letters()), *wrong_rows(rows_of(cases, True), world.rows())])

        world.run([("DEL", case.key) for case in left])
        retry(world, len(left))
        assert_none([*wrong_letters([], world.letters()), *wrong_rows(rows_of(cases, True), world.rows())])
        assert world.pids() == pids


def _flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]
