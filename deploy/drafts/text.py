"""A draft as the text of gearsync.toml."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable

from deploy.drafts.draft import Draft, Entry, LeftOut, Line
from deploy.output import shown

WIDTH = 98
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
#: The furthest that a note is moved to the right, so that notes stand under each other.
_INDENT = 44


def render(draft: Draft, file: str) -> str:
    """Return the text of ``file``."""
    targets = _targets(draft)
    lines = [*_comment(f"Made by gearsync init from {draft.source}.")]
    lines += _comment(
        "Each function carries the hashes of one key template to the rows of one table. Take out what you "
        "do not want, let keys say how your keys look, and keep the fields that your hashes have. Then:"
    )
    lines += [f"#   gearsync {each} {_in_line(file)}" for each in ("check", "deploy")]
    for sentence in draft.comments:
        lines += ["#", *_comment(sentence)]
    for schema, name in targets.items():
        lines += ["", *_target(draft, name, schema)]
    for entry in draft.entries:
        lines += ["", *_function(entry, targets[entry.schema])]
    if draft.left_out:
        lines += ["", *_left_out(draft.left_out)]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return a string of TOML."""
    # What JSON escapes TOML reads in the same way; it also wants DEL escaped, and takes no half of a pair.
    return "".join(
        each if each.isprintable() else _escaped(each) for each in json.dumps(text, ensure_ascii=False)
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _key(text: str) -> str:
    return text if _BARE.match(text) else quoted(text)


def _targets(draft: Draft) -> dict[str | None, str]:
    """Return the name of the target of each schema."""
    schemas = list(dict.fromkeys(entry.schema for entry in draft.entries)) or [None]
    if len(schemas) == 1:
        return {schemas[0]: draft.reference.name}
    names: dict[str | None, str] = {}
    for schema in schemas:
        words = draft.reference.name if schema is None else f"{draft.reference.name}_{schema}"
        name = re.sub("[^A-Za-z0-9_-]", "_", words)[:60]
        names[schema] = name if name not in names.values() else f"{name}_{len(names)}"
    return names


def _target(draft: Draft, name: str, schema: str | None) -> list[str]:
    lines = []
    if draft.reference.setting:
        masks = ", with the password for ***" if "***" in draft.reference.setting else ""
        lines += _comment(f"Set here and where the worker runs{masks}:")
        lines.append(f"#   {_in_line(draft.reference.setting)}")
    lines += [f"[targets.{_key(name)}]", f"url = {quoted(draft.reference.text)}"]
    if schema is not None:
        lines.append(f"schema = {quoted(schema)}")
    return lines


def _function(entry: Entry, target: str) -> list[str]:
    lines = [line for each in entry.comments for line in _comment(each)]
    lines += ["[[functions]]", 'kind = "write-behind"', f"keys = {quoted(entry.keys)}"]
    lines += [f"table = {quoted(entry.table)}", f"target = {quoted(target)}"]
    if entry.db:
        lines.append(f"db = {entry.db}")
    lines += ["", "[functions.columns]", *_columns(entry.lines)]
    return [*lines, *(line for each in entry.asides for line in _comment(each))]


def _columns(columns: Iterable[Line]) -> list[str]:
    pairs = [(f"{_key(each.field)} = {quoted(each.column)}", each.note) for each in columns]
    width = min(_INDENT, max(len(pair) for pair, _ in pairs))
    # A note never wraps: what stands behind a value ends with its line.
    return [f"{pair:<{width}}  # {_one_line(note)}" if note else pair for pair, note in pairs]


def _left_out(every: list[LeftOut]) -> list[str]:
    lines = ["# Left out:"]
    for each in every:
        remedy = f" To do: {each.remedy}." if each.remedy else ""
        lines += _comment(f"{each.name}: {each.reason}.{remedy}", "#   ")
    return lines


def _one_line(text: str) -> str:
    return shown(" ".join(text.split()))


def _in_line(text: str) -> str:
    """Return a text as it can stand in a comment: a file's name may hold the end of a line."""
    return shown(text).replace("\n", "\\n")


def _comment(text: str, first: str = "# ") -> list[str]:
    """Return a sentence as lines of a comment; those after the first are indented under it."""
    indent = first if first == "# " else first + "  "
    return textwrap.wrap(
        _one_line(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
