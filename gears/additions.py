"""What the rows of a function have beside the columns that fields of the hash fill, as a user declares it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Sequence, Tuple

from gears import expressions
from gears.expressions import Expression, ExpressionError

REST_BYTES = ("refuse", "base64")

Problems = List[Tuple[str, str]]
"""What is wrong, as pairs of option and sentence."""


@dataclass(frozen=True)
class Additions:
    """``rest``: the column of all fields that no column is named for, as one JSON object; empty: none.
    ``rest_bytes``: whether a value there that is no UTF-8 is refused, or becomes ``{"base64": …}``.

    ``constants`` and ``computed`` are values and expressions by column.
    """

    rest: str = ""
    rest_bytes: str = "refuse"
    constants: dict[str, Any] = field(default_factory=dict)
    computed: dict[str, Expression] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written with every row."""
        rest = (self.rest,) if self.rest else ()
        return (*rest, *self.constants, *self.computed)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the hash that computed columns need."""
        return tuple(name for each in self.computed.values() for name in each.fields)

    def document(self) -> dict[str, Any]:
        """Return the options that are set, as a user writes them."""
        found: dict[str, Any] = {}
        if self.rest:
            found.update(rest=self.rest, rest_bytes=self.rest_bytes)
        if self.constants:
            found["constants"] = self.constants
        if self.computed:
            found["computed"] = {column: each.text for column, each in self.computed.items()}
        return found


NONE = Additions()
OPTIONS = ("rest", "rest_bytes", "constants", "computed")


def build(options: dict[str, Any], key_names: Sequence[str], problems: Problems) -> Additions:
    """Make the additions of what a user wrote; adds what is wrong to ``problems``."""
    rest = options.get("rest") or ""
    rest_bytes = options.get("rest_bytes", "refuse")
    if not isinstance(rest, str) or "\0" in rest:
        problems.append(("rest", f"{rest!r} is not a column's name"))
        rest = ""
    if rest_bytes not in REST_BYTES:
        problems.append(("rest_bytes", f'{rest_bytes!r} is neither; write "refuse" or "base64"'))
    elif rest_bytes != "refuse" and not rest:
        problems.append(
            ("rest_bytes", 'it says what becomes of bytes in the column rest="…", and there is none')
        )
    constants = _table("constants", options.get("constants"), problems)
    for column, value in constants.items():
        if not isinstance(value, (str, int, float, bool)):
            problems.append(("constants", f"{column}: {value!r} is neither text, number nor truth value"))
    computed: dict[str, Expression] = {}
    for column, text in _table("computed", options.get("computed"), problems).items():
        try:
            computed[column] = expressions.parse(_text(text), key_names)
        except ExpressionError as error:
            problems.append(("computed", f"{column}: {error}"))
    return Additions(rest, rest_bytes, constants, computed)


def _table(option: str, value: Any, problems: Problems) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict) and all(isinstance(name, str) and name and "\0" not in name for name in value):
        return dict(value)
    problems.append((option, f"{value!r} is not a dict of columns and what they get"))
    return {}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    said = (
        "callables belong into a transform" if callable(value) else "what is no text belongs into constants"
    )
    raise ExpressionError(f"{value!r} is not a text with names in braces; {said}")


def check_columns(
    additions: Additions, filled: dict[str, str], key_names: Sequence[str], problems: Problems
) -> None:
    """Add what is filled twice; ``filled`` is column → field of those that fields fill."""
    seen: dict[str, str] = {column: f"the field {name}" for column, name in filled.items()}
    seen.update((name, "the key") for name in key_names)
    for option, columns in _by_option(additions):
        for column in columns:
            if column in seen:
                message = f"the column {column} is filled from {seen[column]} already; only one can be right"
                problems.append((option, message))
            seen.setdefault(column, option)


def _by_option(additions: Additions) -> list[tuple[str, Sequence[str]]]:
    found: list[tuple[str, Sequence[str]]] = [
        ("rest", (additions.rest,) if additions.rest else ()),
        ("constants", tuple(additions.constants)),
        ("computed", tuple(additions.computed)),
    ]
    return found
