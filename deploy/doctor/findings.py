"""What the doctor found, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gears.declaring.errors import Mistake

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing. ``check`` is a short name that stays the same, for programs; ``place`` a server's address,
    a database's name, or a place in a file. ``what`` and ``why`` are sentences, and so is ``todo``, which may
    be empty in a note.
    """

    severity: str
    check: str
    place: str
    what: str
    why: str = ""
    todo: str = ""

    def document(self) -> dict[str, str]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass
class Diagnosis:
    """All findings; ``looked_at`` names the places that answered."""

    findings: list[Finding] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    def at(self, place: str) -> Place:
        """Return what takes the findings of one place."""
        return Place(self, place)

    def of(self, severity: str) -> list[Finding]:
        """Return the findings of one severity, in the order in which they came."""
        return [each for each in self.findings if each.severity == severity]

    def document(self) -> dict[str, Any]:
        """Return all as JSON values, the worst first."""
        ordered = [each.document() for severity in SEVERITIES for each in self.of(severity)]
        return {"ok": not self.of(ERROR), "looked_at": self.looked_at, "findings": ordered}


@dataclass(frozen=True)
class Place:
    """Where findings are: a shard, a database, a function."""

    diagnosis: Diagnosis
    name: str

    def error(self, check: str, what: str, why: str = "", todo: str = "") -> None:
        """Add what loses data, or keeps changes from SQL."""
        self._add(ERROR, check, what, why, todo)

    def warn(self, check: str, what: str, why: str = "", todo: str = "") -> None:
        """Add what will lose data when something else goes wrong."""
        self._add(WARNING, check, what, why, todo)

    def note(self, check: str, what: str, why: str = "", todo: str = "") -> None:
        """Add what is good to know, or could not be looked at."""
        self._add(NOTE, check, what, why, todo)

    def of_mistake(self, severity: str, check: str, mistake: Mistake) -> None:
        """Add what one of the checks of a deploy found."""
        what = f"{mistake}".rstrip(".") + "."
        self._add(severity, check, what)

    def _add(self, severity: str, check: str, what: str, why: str = "", todo: str = "") -> None:
        finding = Finding(severity, check, self.name, what, why, todo)
        # Two functions of one table find the same about it.
        if finding not in self.diagnosis.findings:
            self.diagnosis.findings.append(finding)
