"""What a person or a program gets to read of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy import output
from deploy.letters import store
from deploy.sources import Source
from deploy.verifying import nouns
from deploy.verifying.report import Counts, Named
from deploy.verifying.sampling import CONFIDENCE, most_that_differ
from gears.declaring import kinds


@dataclass(frozen=True)
class Outcome:
    """The comparison of one function. ``kept``: why rows without a hash may be there."""

    source: Source
    counts: Counts
    seconds: float
    kept: str
    sample: int
    notes: list[str]

    @property
    def rate(self) -> float:
        """Hashes and their rows a second."""
        return max(self.counts.hashes, self.counts.rows) / max(self.seconds, 0.001)


def document(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as an object for programs."""
    source, counts = outcome.source, outcome.counts
    made: dict[str, Any] = {
        "deployment": source.deployment.name,
        "function": source.function.name,
        "type": source.function.mapping.type,
        "table": source.function.mapping.table,
        **counts.numbers(),
        "left": counts.left,
        "kept_because": outcome.kept,
        "differences": [each.document() for each in counts.named],
        "notes": outcome.notes,
        "seconds": round(outcome.seconds, 3),
        "rows_per_second": round(outcome.rate),
    }
    if outcome.sample:
        shares = _shares(outcome)
        made["sample"] = {"wanted": outcome.sample, "confidence": CONFIDENCE, **shares}
    return made


def _shares(outcome: Outcome) -> dict[str, float]:
    counts = outcome.counts
    wrong = counts.missing + counts.differs
    return {
        "keys_that_differ_at_most": round(most_that_differ(counts.hashes, wrong), 6),
        "extra_rows_at_most": round(most_that_differ(counts.rows, counts.extra), 6),
    }


def show(outcome: Outcome) -> None:
    """Print an outcome."""
    source, counts = outcome.source, outcome.counts
    output.heading(
        f"{source.function.name}: {source.function.mapping.keys.text} and {source.function.mapping.table}"
    )
    compared = output.counted(counts.hashes, *nouns.of(source.function))
    looked = f", {output.counted(counts.rows, 'row')} looked up" if counts.rows else ""
    output.line(f"  {compared} compared{looked}, in {outcome.seconds:,.1f} s ({outcome.rate:,.0f}/s)")
    for line in _lines(outcome):
        output.line(f"  {line}")
    if counts.named:
        _table(counts.named, counts.found)
    for note in outcome.notes:
        output.line(f"  {note}")
    output.line(f"  {_verdict(counts)}")


def _lines(outcome: Outcome) -> list[str]:
    counts = outcome.counts
    one, many = nouns.of(outcome.source.function)
    lines = [
        f"{output.counted(count, *words)} {text}"
        for count, *words, text in (
            *_found(outcome, one, many),
            (counts.repaired, "difference", "differences", "repaired"),
            (counts.lagged, "key was", "keys were", "only behind, and equal by now"),
            (counts.undecided, "key", "keys", "not known: changes of them were on their way to the end"),
        )
        if count
    ]
    if counts.kept:
        lines.append(f"{output.counted(counts.kept, 'row')} without a {one}, kept by policy: {outcome.kept}")
    if outcome.sample:
        lines += _sampled(outcome)
    return lines


def _found(outcome: Outcome, one: str, many: str) -> list[tuple[int, str, str, str]]:
    counts = outcome.counts
    if kinds.has_members(outcome.source.function.mapping.type):
        return [
            (counts.missing, f"{one} has", f"{many} have", "no rows"),
            (counts.extra, f"key that is no {one} has", f"keys that are no {many} have", "rows"),
            (counts.differs, f"{one} has", f"{many} have", "other members than rows"),
        ]
    return [
        (counts.missing, "row is", "rows are", "missing"),
        (counts.extra, "row is", "rows are", f"extra, without a {one}"),
        (counts.differs, "row differs", "rows differ", f"from the {one}"),
    ]


def _sampled(outcome: Outcome) -> list[str]:
    shares = _shares(outcome)
    counts = outcome.counts
    lines = [
        f"with {CONFIDENCE:.0%} confidence no more than {shares['keys_that_differ_at_most']:.3%} of all "
        f"{nouns.of(outcome.source.function)[1]} differ"
    ]
    if counts.rows:
        lines.append(f"and no more than {shares['extra_rows_at_most']:.3%} of all rows are extra")
    return lines


def _table(named: list[Named], found: int) -> None:
    output.line()
    rows = [
        (
            _name(each),
            _what(each),
            ", ".join(each.columns),
            each.reason,
        )
        for each in named
    ]
    output.table(["key", "what", "columns", "reason"], rows, fold=["key", "columns", "reason"])
    if found > len(named):
        output.line(f"  and {found - len(named):,} more")
    output.line()


def _what(each: Named) -> str:
    rows = ", ".join(f"{output.counted(count, 'row')} {kind}" for kind, count in each.rows.items())
    return each.kind + (f": {rows}" if rows else "") + (", repaired" if each.repaired else "")


def _name(each: Named) -> str:
    if each.key is not None:
        return store.named(each.key)
    return ", ".join(f"{name} = {value!r}" for name, value in each.row.items())


def _verdict(counts: Counts) -> str:
    if counts.left:
        return f"{output.counted(counts.left, 'difference')} left."
    return "Redis and SQL are equal." if not counts.found else "All differences are repaired."
