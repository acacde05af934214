"""The tables that the benchmarks write: their columns, and the hash of each key."""

from __future__ import annotations

from typing import Any, NamedTuple


class Schema(NamedTuple):
    """One kind of table; keys are ``NAME:{person_id}``, of the first of several tables too."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    value_bytes: int = 0
    """How long texts are at least."""

    def table(self, number: int = 0) -> str:
        """Return the name of a table; the first of several is called as the schema."""
        return f"{self.name}s{number or ''}"

    def key(self, key: object, number: int = 0) -> str:
        """Return a key of Redis whose row is in a table."""
        return f"{self.name}{number or ''}:{key}"

    def ddl(self, number: int = 0) -> str:
        """Return the statement that creates a table."""
        columns = ", ".join(f"{name} {type_}" for name, type_ in zip(self.columns, self.types))
        return f"CREATE TABLE {self.table(number)} (person_id VARCHAR(40) PRIMARY KEY, {columns})"

    def image(self, number: int, offset: int = 0) -> dict[str, Any]:
        """Return the hash of one key; ``offset`` makes it another."""
        found: dict[str, Any] = {}
        for place, (name, type_) in enumerate(zip(self.columns, self.types)):
            if type_ == "INTEGER":
                found[name] = (number + offset + place) % 90
            else:
                found[name] = f"{name}{number * (place + 1)}".ljust(self.value_bytes, "x")
        return found


PERSON = Schema("person", ("first", "last", "age"), ("VARCHAR(40)", "VARCHAR(40)", "INTEGER"))
WIDE = Schema(
    "wide",
    tuple(f"{kind}{number}" for number in range(10) for kind in ("text", "number")),
    ("VARCHAR(40)", "INTEGER") * 10,
)


def with_values(size: int) -> Schema:
    """Return a table with one text of about that many bytes."""
    return Schema("note", ("body",), ("TEXT" if size < 60_000 else "LONGTEXT",), size)
