"""What is printed, and how it is laid out at 80 columns."""

from __future__ import annotations

import pytest

from deploy import output


def test_numbers_stand_right_and_have_their_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["name", "rows"], [["a", 1234567], ["bb", 5]])
    assert capsys.readouterr().out == "  name       rows\n  a     1,234,567\n  bb            5\n"


def test_only_columns_that_fold_give_way(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["id", "reason"], [["1790000000123-0", "word " * 40]], fold=["reason"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("  1790000000123-0  word word")
    assert " ".join(" ".join(lines).split()).count("word") == 40


def test_markup_in_values_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["value"], [["[bold]x[/bold] [/]"]])
    output.line("[red]y")
    output.heading("[z]")
    assert capsys.readouterr().out.split() == ["value", "[bold]x[/bold]", "[/]", "[red]y", "[z]"]


def test_bullets_fold_under_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    output.bullets(["word " * 30, "short"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  - word")
    assert lines[1].startswith("    word")
    assert lines[-1] == "  - short"
    assert max(map(len, lines)) <= 80


def test_json_keeps_its_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.as_json([{"name": "Łukasz"}])
    assert capsys.readouterr().out == '[\n  {\n    "name": "Łukasz"\n  }\n]\n'


def test_empty_cells_show_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["a", "b", "c"], [["", None, 1.25]])
    assert capsys.readouterr().out.splitlines()[1].split() == ["-", "-", "1.2"]
