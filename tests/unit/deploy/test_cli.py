"""What holds for every command: help, variables, the reference page, exit codes."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy import barrier, cli, reference
from deploy.output import CommandError
from deploy.reaching.shards import Shard
from gears import module
from tests.unit.deploy.faked import FakeHost, shards_of

ROOT = click.Context(cli.group, info_name="gearsync", auto_envvar_prefix="GEARSYNC")
CONTEXTS = [ROOT, *reference.commands(ROOT)]
DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda each: each.command_path)
def test_every_command_and_option_has_help(context: click.Context) -> None:
    assert (context.command.help or "").strip()
    assert (context.command.help or "").split("\n")[0].endswith("."), "the first line is a sentence"
    for parameter in context.command.params:
        if isinstance(parameter, click.Option):
            assert (parameter.help or "").strip(), parameter.name
            assert (parameter.help or "").endswith("."), parameter.name


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda each: each.command_path)
def test_help_fits_80_columns(context: click.Context) -> None:
    words = context.command_path.split()[1:]
    done = CliRunner().invoke(cli.group, [*words, "--help"], prog_name="gearsync")
    assert done.exit_code == 0
    assert max(len(line) for line in done.output.splitlines()) <= 80


@pytest.mark.parametrize("name", ["status", "deadletters", "wait"])
def test_a_command_that_needs_no_database_starts_without_sqlalchemy(name: str) -> None:
    """Its import takes longer than all the rest of such a command's start."""
    code = f"import sys, deploy.commands.{name}; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_listed_command_can_be_imported() -> None:
    assert [context.info_name for context in CONTEXTS if context.parent is ROOT] == list(cli.COMMANDS)


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli.group, ["undo"]).exit_code == 2


def test_the_reference_is_current() -> None:
    assert DOCS.read_text("utf-8") == reference.text(), "run: make docs"


def test_options_come_from_the_environment_too() -> None:
    done = CliRunner().invoke(
        cli.group, ["wait"], auto_envvar_prefix="GEARSYNC", env={"GEARSYNC_WAIT_TIMEOUT": "x"}
    )
    assert done.exit_code == 2
    assert "'x' is not a valid float" in done.output


def test_version_names_the_module() -> None:
    done = CliRunner().invoke(cli.group, ["--version"])
    assert done.exit_code == 0
    assert done.output.splitlines()[0].startswith("gearsync ")
    # The version that the built file holds, not the package's.
    assert done.output.splitlines()[1] == f"module {importlib.metadata.version('gearsync')}, {module.path()}"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_an_output_that_takes_no_more_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "deploy", "module", "path"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: what is to be written can't be: No space left on device.\n"


def test_a_shell_completes_commands_and_options() -> None:
    complete = 'COMPREPLY=(); _gearsync_completion gearsync; echo "${COMPREPLY[@]}"'
    words = [
        'eval "$(gearsync completion bash)"',
        f"COMP_WORDS=(gearsync deadl) COMP_CWORD=1; {complete}",
        f"COMP_WORDS=(gearsync wait --time) COMP_CWORD=2; {complete}",
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(words)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout.splitlines() == ["deadletters", "--timeout"]


def test_a_failure_is_a_sentence_and_a_hint_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = CommandError("it is broken.", "mend it.")
    error.show()
    assert error.exit_code == 1
    captured = capsys.readouterr()
    assert captured.err == "Error: it is broken.\nTry: mend it.\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    "words",
    [
        ("wait", "--timeout"),
        ("pause", "people", "--timeout"),
        ("undeploy", "people", "--timeout"),
        ("rollback", "people", "--timeout"),
        ("status", "--max-lag-ms"),
        ("status", "--watch", "--interval"),
        ("dashboard", "--interval"),
    ],
    ids=" ".join,
)
def test_nan_is_no_number(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli.group, [*words, "nan"])
    assert done.exit_code == 2
    assert "'nan' is no number." in done.stderr


def test_a_wait_without_end_asks_for_as_long_as_a_socket_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def wait_one(shard: Shard, milliseconds: int, *scope: object) -> bool:
        asked.append(milliseconds)
        return True

    monkeypatch.setattr(barrier, "_wait_one", wait_one)
    for seconds in (0.0, 1.5, 1e9, float("inf")):
        assert barrier.wait(shards_of(FakeHost()), seconds)
    assert asked[0] == 1 and 1400 < asked[1] <= 1500
    assert asked[2:] == [2_000_000_000, 2_000_000_000]
