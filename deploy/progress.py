"""One line of progress on standard error: a spinner on a terminal, else a line whenever it changes."""

from __future__ import annotations

from types import TracebackType

from rich.status import Status
from rich.text import Text

from deploy import output


class Progress:
    """A context in which ``show`` tells what goes on now."""

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
