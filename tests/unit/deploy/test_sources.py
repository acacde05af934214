"""Which functions of a file are compared with Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import sources
from deploy.output import CommandError

HASHES = """
from connectors import Target
from gears import WriteBehind

shop = Target("sqlite:////tmp/unused.db", name="shop")
WriteBehind(keys="a:{id}", table="a", columns=["x"], target=shop)
"""
OTHERS = """
WriteBehind(keys="b:{id}", table="b", type="json", columns=["x"], target=shop)
WriteBehind(keys="c:{id}", table="c", type="set", columns={"member": "x"}, target=shop)
"""
HISTORY = 'WriteBehind(keys="a:{id}", table="d", columns=["x"], target=shop, history=True)\n'


def test_all_but_histories_are_compared_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "functions.py"
    file.write_text(HASHES + OTHERS)
    assert [each.function.name for each in sources.comparable(str(file), None, None)] == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    file.write_text(HASHES + OTHERS + HISTORY)
    assert [each.function.name for each in sources.comparable(str(file), None, None)] == ["a", "b", "c"]
    said = " ".join(capsys.readouterr().err.split())
    assert "Not compared, being histories: d. The rows of a history say what was" in said
    with pytest.raises(CommandError, match="d is a history, and is not compared"):
        sources.comparable(str(file), None, "d")
    with pytest.raises(CommandError, match="there is no function e with columns"):
        sources.comparable(str(file), None, "e")
