"""A mapping: key template, table, field→column map, primary key and policies, as one validated value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gears.declaring import additions as additional
from gears.declaring import kinds
from gears.declaring.additions import Additions, Problems
from gears.declaring.errors import TemplateError
from gears.declaring.template import Template

OPERATION = "#"
"""The field that is an operation, for functions with that option (docs/design.md, "Operations")."""
POLICIES = ("on_delete", "on_expire", "on_evict", "on_flush")
MAX_DATABASE = 1 << 20
MAX_FIELDS = 100_000


@dataclass(frozen=True)
class Mapping:
    """How one kind of hash becomes the rows of one table.

    ``columns`` maps each hash field to its column; the names of ``keys`` are the primary key. ``db`` is the
    number of the Redis database. ``fields`` are hash fields that are captured for a transform beside the
    mapped ones; None: not given. Each policy is ``"delete"`` (the row goes with the key), ``"keep"``, or,
    but for a flush, ``"mark"`` (the row stays, and says since when its key is gone).
    ``operations``: the field ``#`` is an operation. ``additions``: what rows have beside all that. ``type``:
    what the keys hold (``gears.declaring.kinds``); of JSON documents ``columns`` maps paths. ``members``: the
    most members of a key that is many rows.
    """

    keys: Template
    table: str
    columns: dict[str, str]
    db: int = 0
    fields: tuple[str, ...] | None = None
    on_delete: str = "delete"
    on_expire: str = "delete"
    on_evict: str = "keep"
    on_flush: str = "keep"
    operations: bool = False
    additions: Additions = additional.NONE
    type: str = kinds.HASH
    members: int = kinds.MEMBERS

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The primary-key columns, in the order of the key template's names, and that of the member."""
        if kinds.has_members(self.type):
            return (*self.keys.names, self.columns[kinds.FIELDS[self.type][0]])
        return self.keys.names

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that its rows are written with, beside the primary key."""
        history = additional.HISTORY if self.additions.history else ()
        return (*self.columns.values(), *self.additions.columns, *history)

    def shares_keys(self, other: Mapping) -> bool:
        """Return whether some key is covered by both."""
        return self.db == other.db and self.keys.overlaps(other.keys)

    def policies(self) -> dict[str, str]:
        """Return the policies by their option's name."""
        return {option: getattr(self, option) for option in POLICIES}


def build(
    options: dict[str, Any], has_transform: bool, needs_columns: bool = True, writes: bool = True
) -> tuple[Mapping | None, Problems]:
    """Make a mapping of what a user wrote (the fields of Mapping, ``keys`` as text, ``columns`` as a dict
    or a list, which may be empty unless it ``needs_columns``). ``writes``: writes go to SQL by it.

    Returns the mapping and no problems, or None and every problem found.
    """
    problems: Problems = []
    keys = _template(options.get("keys"), problems)
    table = _text("table", options.get("table"), problems)
    problems += kinds.check(options, has_transform)
    kind = options.get("type", kinds.HASH)
    needs_columns = needs_columns and not options.get("rest")
    written = kinds.columns_of(kind, options.get("columns", None if needs_columns else ()))
    columns = _columns(written, needs_columns, problems)
    if not problems:
        problems += kinds.check_columns(kind, [*columns, *(options.get("fields") or ())])
    names = () if keys is None else keys.names
    _check_key_columns(names, columns, problems)
    additions = additional.build(options, names, writes, problems)
    additional.check_columns(additions, {column: each for each, column in columns.items()}, names, problems)
    db = options.get("db", 0)
    if not _is_whole(db) or not 0 <= db <= MAX_DATABASE:
        problems.append(("db", f"{db!r} is no number of a Redis database; write 0, 1, …"))
    fields = _fields(options.get("fields"), has_transform, problems)
    policies = {option: _policy(option, options, problems) for option in POLICIES}
    operations = options.get("operations", False)
    _check_operations(operations, db, [*columns, *(fields or ()), *additions.fields], problems)
    if problems or keys is None:
        return None, problems
    members = options.get("members", kinds.MEMBERS)
    more: dict[str, Any] = {"additions": additions, "type": kind, "members": members, **policies}
    return Mapping(keys, table, columns, db, fields, operations=operations, **more), problems


def _template(text: Any, problems: Problems) -> Template | None:
    if not _text("keys", text, problems):
        return None
    try:
        return Template(text)
    except TemplateError as error:
        problems.append(("keys", str(error)))
        return None


def _text(option: str, value: Any, problems: Problems) -> str:
    if is_text(value):
        return str(value)
    problems.append((option, f"{value!r} is not a text with at least one character"))
    return ""


def is_text(value: Any) -> bool:
    """Return whether ``value`` is a str that is not empty, holds no NUL, and can be written as UTF-8."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _columns(value: Any, needed: bool, problems: Problems) -> dict[str, str]:
    if isinstance(value, (list, tuple)):
        pairs = [(name, name) for name in value]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        hint = "{!r} is neither a dict of field to column nor a list of names that are both"
        problems.append(("columns", hint.format(value)))
        return {}
    if not pairs and needed:
        problems.append(("columns", "no field is mapped; name at least one field and its column"))
    columns: dict[str, str] = {}
    fields_by_column: dict[str, str] = {}
    for field, column in pairs:
        if not is_text(column) or not isinstance(field, str) or (field and not is_text(field)):
            problems.append(("columns", f"{field!r}: {column!r} is not a field's name and a column's name"))
            continue
        if field in columns:
            problems.append(("columns", f"the field {field} is named twice"))
        elif column in fields_by_column:
            message = "the column {} is filled from two fields, {} and {}; only one can be right"
            problems.append(("columns", message.format(column, fields_by_column[column], field)))
        columns[field] = column
        fields_by_column.setdefault(column, field)
    return columns


def _check_key_columns(names: tuple[str, ...], columns: dict[str, str], problems: Problems) -> None:
    for field, column in columns.items():
        if column in names:
            message = (
                "the column {} is filled from the key ({{{}}} in keys), so no field can fill it; leave {} out"
            )
            problems.append(("columns", message.format(column, column, field)))


def _check_operations(operations: Any, db: Any, fields: list[str], problems: Problems) -> None:
    if operations is not True and operations is not False:
        problems.append(("operations", f"{operations!r} is neither true nor false"))
    elif operations and OPERATION in fields:
        message = (
            "the field # is an operation with this option, and never stored: no column or transform gets it"
        )
        problems.append(("operations", message))
    elif operations and db:
        problems.append(("operations", "operations are for keys of database 0 alone, not of db"))


def _fields(value: Any, has_transform: bool, problems: Problems) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not has_transform:
        message = (
            "fields says what a transform sees, and there is no transform; the fields in columns are captured"
        )
        problems.append(("fields", message))
    elif not isinstance(value, (list, tuple)) or not all(is_text(field) for field in value):
        problems.append(("fields", f"{value!r} is not a list of field names"))
    elif len(value) > MAX_FIELDS:
        problems.append(("fields", f"more than {MAX_FIELDS} fields"))
    else:
        return tuple(dict.fromkeys(value))
    return None


def _policy(option: str, options: dict[str, Any], problems: Problems) -> str:
    default = str(Mapping.__dataclass_fields__[option].default)
    value = options.get(option, default)
    known = ("delete", "keep", "mark") if option in additional.MARKING else ("delete", "keep")
    if value in known:
        return str(value)
    words = " or ".join(f'"{each}"' for each in known)
    problems.append((option, f"{value!r} is no policy; write {words}"))
    return default
