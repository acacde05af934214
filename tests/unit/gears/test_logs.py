"""The worker's log: lines, events, and what repeats itself."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gears.worker import logs
from gears.worker.logs import ConsoleLines, JsonLines, Repeats, event
from gears.worker.process import main


class Log:
    """A logger with its lines and its clock."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.now = 1000.0
        self._output = io.StringIO()
        handler = logging.StreamHandler(self._output)
        handler.setFormatter(formatter)
        self.repeats = Repeats(handler, lambda: self.now)
        self.log = logging.Logger("test")
        self.log.addHandler(self.repeats)

    def waits(self, error: str, seconds: float = 1.0, lane: str = "a") -> None:
        """Log as a lane that waits does."""
        told = event("lane_waits", lane=lane, error=error)
        self.log.warning("%s: %s; trying again in %.1f s", lane, error, seconds, extra=told)

    @property
    def lines(self) -> list[str]:
        return self._output.getvalue().splitlines()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def console() -> Log:
    return Log(ConsoleLines())


@pytest.fixture
def as_json() -> Log:
    return Log(JsonLines(deployment="crm"))


def test_a_line_of_json_has_the_event_and_its_fields(as_json: Log) -> None:
    as_json.waits("connection refused")
    (line,) = as_json.documents
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning",
        "event": "lane_waits",
        "deployment": "crm",
        "lane": "a",
        "error": "connection refused",
        "message": "a: connection refused; trying again in 1.0 s",
    }


def test_an_event_is_one_line_whatever_it_says(console: Log, as_json: Log) -> None:
    for each in (console, as_json):
        each.waits("first\nsecond\r")
        assert len(each.lines) == 1
    assert console.lines[0].endswith("gearsync worker WARNING a: first\\nsecond\\r; trying again in 1.0 s")


def test_what_repeats_is_told_once_and_then_once_a_minute(console: Log) -> None:
    for second in range(100):
        console.now = 1000.0 + second
        console.waits("refused", seconds=float(second))
    assert [line.partition("WARNING ")[2] for line in console.lines] == [
        "a: refused; trying again in 0.0 s",
        "a: refused; trying again in 59.0 s (repeated 59 times)",
    ]


def test_the_count_is_a_field(as_json: Log) -> None:
    for second in (0, 1, 2, 70):
        as_json.now = 1000.0 + second
        as_json.waits("100% refused")
    assert [line.get("repeated") for line in as_json.documents] == [None, 2]
    assert as_json.documents[1]["message"] == "a: 100% refused; trying again in 1.0 s (repeated 2 times)"


def test_another_error_or_lane_is_news(console: Log) -> None:
    console.waits("refused")
    console.waits("deadlock")
    console.waits("refused", lane="b")
    console.waits("deadlock")
    assert len(console.lines) == 3


def test_what_was_silent_for_a_minute_is_news(console: Log) -> None:
    console.waits("refused")
    console.now += 61
    console.waits("refused")
    assert len(console.lines) == 2
    assert "repeated" not in console.lines[1]


def test_other_events_bring_out_what_was_counted(console: Log) -> None:
    console.waits("refused")
    console.waits("refused")
    console.now += 61
    console.log.info("working")
    assert ["repeated 1 times" in line for line in console.lines] == [False, True, False]


def test_the_end_brings_out_what_was_counted(console: Log) -> None:
    console.waits("refused")
    console.waits("refused")
    console.repeats.close()
    assert "repeated 1 times" in console.lines[1]


def test_what_is_said_of_itself_is_never_held_back(console: Log) -> None:
    for _ in range(3):
        console.log.info("epoch 1, 2 lanes", extra=event("lanes"))
    assert len(console.lines) == 3


def test_faults_of_one_type_are_told_apart_by_where_they_were(console: Log) -> None:
    for trace in ("in convert", "in apply", "in apply"):
        told = event(logs.FAULT, lane="a", error="TypeError")
        console.log.error("%s: %s", "a", trace, extra=told)
    assert [line.endswith("in convert") for line in console.lines] == [True, False]


def test_many_different_errors_do_not_fill_the_memory(console: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_KEYS", 10)
    for number in range(100):
        console.waits(f"no {number}")
    assert len(console.repeats._seen) <= 10
    assert len(console.lines) == 100


@pytest.fixture
def root() -> Iterator[None]:
    """Leave the root logger as it was."""
    before = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = before[0]
    logging.root.setLevel(before[1])


@pytest.mark.usefixtures("root")
def test_a_url_that_cannot_be_read_is_told_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    url = "redis://me:hunter2@host:no-port"
    assert main(["--deployment", "crm", "--redis", url, "--log-format", "json"]) == 1
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["deployment"]) == ("url_refused", "error", "crm")
    assert "hunter2" not in str(line)


def test_a_format_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.VARIABLE, "xml")
    with pytest.raises(SystemExit) as ended:
        main(["--deployment", "crm", "--redis", "redis://host"])
    assert ended.value.code == 2
    assert "GEARSYNC_LOG_FORMAT is 'xml', which is neither console nor json" in capsys.readouterr().err
