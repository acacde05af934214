"""What the checks of a deployment found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from gears.declaring.errors import Mistake
from gears.declaring.functions import Function


@dataclass
class Findings:
    """Mistakes forbid to deploy, warnings do not; ``not_checked`` says in sentences what was left out, and
    why. ``lacks_tables``: some of the mistakes are tables that are not there.
    """

    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    lacks_tables: bool = False

    def mistake(
        self, message: str, function: Function | None = None, option: str = "", place: str = ""
    ) -> None:
        """Add what forbids to deploy; ``place`` stands in when it is of no function."""
        _add(self.mistakes, _finding(message, function, option, place))

    def warn(self, message: str, function: Function | None = None, option: str = "", place: str = "") -> None:
        """Add what the user should know and may want."""
        _add(self.warnings, _finding(message, function, option, place))


def _add(findings: list[Mistake], finding: Mistake) -> None:
    # Several shards find the same about one function.
    if finding not in findings:
        findings.append(finding)


def _finding(message: str, function: Function | None, option: str, place: str) -> Mistake:
    if function is None:
        return Mistake(place, "", option, message)
    return Mistake(function.place or place, function.name, option, message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the nearest known name; empty when none is near."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), list(by_lower), 1, 0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
