"""Progress on standard error: live on a terminal, else in lines."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress
from rich.status import Status
from rich.text import Text

from deploy import output

LINE_SECONDS = 5.0
"""Between two lines of a count that goes on."""


class Progress:
    """One line: a spinner on a terminal, else a line whenever it changes.

    A context in which ``show`` tells what goes on now.
    """

    def __init__(self) -> None:
        self._console = output.progress_console()
        self._spinner: Status | None = None
        self._shown = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._spinner = self._console.status("")
            self._spinner.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def show(self, text: str) -> None:
        """Tell what goes on now; the same text again says nothing new."""
        if text == self._shown:
            return
        self._shown = text
        if self._spinner is not None:
            self._spinner.update(Text(text))
        else:
            output.status(text)


class Count:
    """A count that grows, with its rate and the time left; a context in which ``show`` tells how far it is.

    ``unit`` is the plural of what is counted, ``start`` how many were there before; ``estimated``: totals
    are.
    """

    def __init__(self, title: str, unit: str, start: int = 0, estimated: bool = False) -> None:
        self._title, self._unit, self._start = title, unit, start
        self._about = "about " if estimated else ""
        self._told = ""
        self._begin = self._shown = time.monotonic()
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=12),
            *(progress.TextColumn(f"{{task.fields[{name}]}}") for name in ("done", "rate", "left")),
            console=output.progress_console(),
            transient=True,
        )
        self._is_live = self._bar.console.is_terminal
        self._task = self._bar.add_task(output.shown(title), total=None, done="", rate="", left="")

    def __enter__(self) -> Count:
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._bar.stop()

    def show(self, count: int, total: int | None, waits: bool = False) -> None:
        """Tell that ``count`` of ``total`` are done; None: how many there are is not known yet.

        ``waits``: nothing goes on until SQL has what is on its way.
        """
        now = time.monotonic()
        rate = (count - self._start) / max(now - self._begin, 0.001)
        done = (
            f"{count:,} {self._unit}"
            if total is None
            else f"{count:,} of {self._about}{total:,} {self._unit}"
        )
        speed = f"{rate:,.0f}/s"
        left = "" if total is None or not rate else f"{_duration((total - count) / rate)} left"
        left = "waits for SQL" if waits else left
        if self._is_live:
            self._bar.update(self._task, completed=count, total=total, done=done, rate=speed, left=left)
        elif now - self._shown >= LINE_SECONDS:
            self._shown = now
            output.status(f"{self._title}: {', '.join(filter(None, (done, speed, left)))}")

    def tell(self, sentence: str) -> None:
        """Print a sentence of its own, above the bar; the same again says nothing new."""
        if sentence and sentence != self._told:
            self._told = sentence
            self._bar.console.print(Text(output.shown(sentence)), soft_wrap=True)


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
