"""What a drafted gearsync.toml holds, before it is text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from deploy.drafts.references import Reference


@dataclass
class Line:
    """One column: the hash field that fills it, and what stands behind it as a comment."""

    field: str
    column: str
    note: str = ""


@dataclass
class Entry:
    """One function. ``comments`` stand above it, ``asides`` under its columns; no ``schema``: the default."""

    keys: str
    table: str
    lines: list[Line]
    schema: str | None = None
    db: int = 0
    comments: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    parents: frozenset[str] = frozenset()

    def describe(self, key: str) -> None:
        """Say above it what its ``key`` is, and what it means that it has parents."""
        self.comments.append(f"{self.table}: from the key {key}")
        if self.parents:
            self.comments.append(
                f"Its rows refer to {' and '.join(sorted(self.parents))}: a hash whose parent has no row yet "
                "becomes a dead letter, to be retried when it has."
            )


@dataclass
class LeftOut:
    """Something that has no function: why, and what to do about it."""

    name: str
    reason: str
    remedy: str = ""


@dataclass
class Draft:
    """A whole file. ``source`` says of what it was made; ``comments`` stand at its head."""

    reference: Reference
    source: str
    entries: list[Entry]
    left_out: list[LeftOut] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)


def literal(text: str) -> str:
    """Return ``text`` as it stands in a key template for itself."""
    return text.replace("{", "{{").replace("}", "}}")


def keys_of(table: str, primary_key: Iterable[str], rest: bool = False) -> str:
    """Return the usual key template of a table: ``table:{a}:{b}``, with ``rest`` ``table:{a}:{b*}``."""
    parts = ":".join([literal(table), *(f"{{{name}}}" for name in primary_key)])
    return f"{parts[:-1]}*}}" if rest else parts


def parents_first(entries: Iterable[Entry]) -> list[Entry]:
    """Order entries by their tables' names, but parents before children; those in a circle as it comes."""
    by_name = {entry.table: entry for entry in sorted(entries, key=lambda each: each.table)}
    done: dict[str, Entry] = {}
    seen = set()
    # The second visit of a name is when all above it are done.
    waiting = [(name, False) for name in reversed(by_name)]
    while waiting:
        name, is_ready = waiting.pop()
        if is_ready:
            done.setdefault(name, by_name[name])
        elif name not in seen:
            seen.add(name)
            waiting.append((name, True))
            above = sorted((each for each in by_name[name].parents if each in by_name), reverse=True)
            waiting += [(each, False) for each in above]
    return list(done.values())
