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


def test_only_hashes_are_compared_and_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "functions.py"
    file.write_text(HASHES)
    assert [each.function.name for each in sources.comparable(str(file), None, None)] == ["a"]
    assert capsys.readouterr().err == ""
    file.write_text(HASHES + OTHERS)
    assert [each.function.name for each in sources.comparable(str(file), None, None)] == ["a"]
    assert "Not compared, since only hashes are: b, c." in capsys.readouterr().err
    for name in "bc":
        with pytest.raises(CommandError, match=f"there is no function {name} with columns that hashes fill"):
            sources.comparable(str(file), None, name)
