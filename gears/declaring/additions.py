"""What the rows of a function have beside the columns that fields of the hash fill, as a user declares it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Sequence, Tuple

from gears.declaring import expressions
from gears.declaring.expressions import Expression, ExpressionError

MARKING = ("on_delete", "on_expire", "on_evict")
"""The policies by which a row can be marked as deleted."""
REST_BYTES = ("refuse", "base64")
DELETED_AT = "deleted_at"
"""The column that marks a row as deleted, unless another one is named."""
LANE, EPOCH, MS, SEQ, OP, AT = (
    "change_lane",
    "change_epoch",
    "change_ms",
    "change_seq",
    "change_op",
    "changed_at",
)
HISTORY_KEY = (LANE, EPOCH, MS, SEQ)
"""The columns of a history that tell one change from all others."""
HISTORY = (*HISTORY_KEY, OP, AT)

Problems = List[Tuple[str, str]]
"""What is wrong, as pairs of option and sentence."""


@dataclass(frozen=True)
class Additions:
    """``rest``: the column of all fields that no column is named for, as one JSON object; empty: none.
    ``rest_bytes``: whether a value there that is no UTF-8 is refused, or becomes ``{"base64": …}``.

    ``constants`` and ``computed`` are values and expressions by column. ``deleted_at``: the column that marks
    a row as deleted; empty: none. ``history``: each change is a row of its own.
    """

    rest: str = ""
    rest_bytes: str = "refuse"
    constants: dict[str, Any] = field(default_factory=dict)
    computed: dict[str, Expression] = field(default_factory=dict)
    deleted_at: str = ""
    history: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written with every row, but for those of a history."""
        rest = (self.rest,) if self.rest else ()
        mark = (self.deleted_at,) if self.deleted_at else ()
        return (*rest, *self.constants, *self.computed, *mark)

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
        if self.deleted_at:
            found["deleted_at"] = self.deleted_at
        if self.history:
            found["history"] = True
        return found


NONE = Additions()


def build(options: dict[str, Any], key_names: Sequence[str], writes: bool, problems: Problems) -> Additions:
    """Make the additions of what a user wrote; adds what is wrong to ``problems``.

    ``writes``: the function brings writes to SQL, and does not only read rows.
    """
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
    deleted_at = _deleted_at(options, writes, problems)
    history = options.get("history", False)
    if history is not True and history is not False:
        problems.append(("history", f"{history!r} is neither true nor false"))
    elif history:
        _check_history(options, problems)
    return Additions(rest, rest_bytes, constants, computed, deleted_at, history is True)


def _deleted_at(options: dict[str, Any], writes: bool, problems: Problems) -> str:
    given = options.get("deleted_at")
    marks = [each for each in MARKING if writes and options.get(each) == "mark"]
    if given is None:
        return DELETED_AT if marks else ""
    if not isinstance(given, str) or not given or "\0" in given:
        problems.append(("deleted_at", f"{given!r} is not a column's name"))
    elif writes and not marks:
        message = f'no row is marked: {", ".join(MARKING)} say so, by "mark"'
        problems.append(("deleted_at", message))
    else:
        return given
    return ""


def _check_history(options: dict[str, Any], problems: Problems) -> None:
    for option in MARKING:
        if options.get(option) == "mark":
            message = (
                'a history has a row for each deletion, and none to mark; write "delete", or "keep" for none'
            )
            problems.append((option, message))
    if options.get("on_flush") == "delete":
        problems.append(("on_flush", "a history keeps its rows, also when Redis is flushed"))


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
        ("deleted_at", (additions.deleted_at,) if additions.deleted_at else ()),
        ("history", HISTORY if additions.history else ()),
    ]
    return found
