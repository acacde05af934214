"""What is printed, and how it is laid out at 80 columns."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from deploy import cli, output


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


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    key = "a\x1b[31m\x9b\x7f\r\u202e\udcff\n ü😀"
    output.table(["key"], [[key]])
    output.line(key)
    output.as_json({key: key})
    lines = capsys.readouterr().out.splitlines()
    escaped = r"a\x1b[31m\x9b\x7f\r\u202e\xff"
    assert lines[:4] == ["  key", rf"  {escaped}\n ü😀", escaped, " ü😀"]
    in_json = r"a\u001b[31m\u009b\u007f\r\u202e\udcff\n ü😀"
    assert lines[4:] == ["{", f'  "{in_json}": "{in_json}"', "}"]


def test_json_reads_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    document = [chr(code) for code in range(0x3000) if code < 0xD800] + ["\U000e0001", "\U0010ffff", "\udcff"]
    output.as_json(document)
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize("encoding", ["latin-1", "koi8-r"])
def test_what_the_encoding_of_the_output_lacks_is_escaped(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        '[targets.r]\nurl = "env:X"\n[[functions]]\nkind = "write-behind"\nkeys = "é😀:{id}"\ntable = "a"\n'
        'target = "r"\ncolumns = ["x"]\n',
        "utf-8",
    )

    def printed(*words: str) -> str:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
        with pytest.raises(SystemExit) as ended:
            cli.main("check", "--offline", str(file), *words)
        assert ended.value.code == 0
        sys.stdout.flush()
        return raw.getvalue().decode(encoding)

    assert "\\U0001f600:{id}" in "".join(printed().split())
    assert json.loads(printed("--json"))["functions"][0]["keys"] == "é😀:{id}"


def test_rows_that_fit_no_line_are_lists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the column that gives way, the name of what the numbers are of, would go altogether."""
    columns = ["deployment", "version", "state", "worker", "backlog", "lag p50/p99 ms", "dead"]
    rows = [("people", 1, "active", "running", 1234567, "71.0 / 71.0", 2), ("orders", *[None] * 6)]
    monkeypatch.setattr(output, "WIDTH_WITHOUT_TERMINAL", 40)
    output.table(columns, rows, fold=["deployment"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "deployment" in line] == [
        "  - deployment: people",
        "  - deployment: orders",
    ]
    assert "    backlog: 1,234,567" in lines
    assert max(map(len, lines)) <= 40
    monkeypatch.setattr(output, "WIDTH_WITHOUT_TERMINAL", 80)
    output.table(columns, rows, fold=["deployment"])
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *["people", "1", "active", "running", "1,234,567", "71.0", "/", "71.0", "2"]
    ]
