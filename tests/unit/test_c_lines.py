"""The module's C is no wider than its code: clang-format leaves comments as they are."""

from __future__ import annotations

from pathlib import Path

MODULE = Path(__file__).parents[2] / "gears" / "module"
COLUMNS = 120


def test_no_line_is_too_long() -> None:
    found = [
        f"{path.relative_to(MODULE)}:{number}"
        for path in sorted(MODULE.rglob("*.[ch]"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not found, "longer than 120 columns: " + ", ".join(found)
