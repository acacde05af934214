"""What was found, as people read it: the worst first, each with why it matters and what to do."""

from __future__ import annotations

from deploy import output
from deploy.doctor.findings import SEVERITIES, Diagnosis, Finding


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print all findings, then what was looked at, and how many there are of each kind."""
    for severity in SEVERITIES:
        found = diagnosis.of(severity)
        if found:
            lines = [(f"{each.place}: {each.what}", _sentences(each)) for each in found]
            output.notes(f"{output.counted(len(found), severity)}", lines, err=False)
            output.line()
    output.line("Looked at:" if diagnosis.looked_at else "Nothing could be looked at.")
    output.bullets(diagnosis.looked_at)
    counts = [output.counted(len(diagnosis.of(severity)), severity) for severity in SEVERITIES]
    output.line(f"{', '.join(counts)}.")


def _sentences(finding: Finding) -> list[str]:
    named = [("Why", finding.why), ("Do", finding.todo)]
    return [f"{name}: {text}" for name, text in named if text]
