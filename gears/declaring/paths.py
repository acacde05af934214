"""Paths into a JSON document: the part of JSONPath (RFC 9535) that names one place, ``$.address.lines[0]``.

``$`` is the document, ``.name`` and ``['any name']`` a member, ``[2]`` an element, ``[-1]`` the last one.
"""

from __future__ import annotations

import json
import re
from typing import Any, Tuple, Union

Path = Tuple[Union[str, int], ...]

DOCUMENT = "$"
_NAME = r"[^\W\d][\w-]*"
_STEP = re.compile(
    rf"\.(?P<name>{_NAME})|\[(?P<index>0|-?[1-9][0-9]{{0,8}})\]"
    r"|\[(?P<quoted>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')\]",
    re.DOTALL,
)
_INDEX = re.compile(r"[-0-9:*?,]|\.\.")


class PathError(ValueError):
    """A text is no path; the message says where and why."""


class Literal(str):
    """A number, ``true`` or ``false``, exactly as the document writes it."""

    __slots__ = ()


class Nothing:
    """What stands at a path that leads nowhere."""


NOTHING = Nothing()


def parse(text: str) -> Path:
    """Return the steps of a path: names of members and indexes of elements. Raises PathError."""
    if not text.startswith(DOCUMENT):
        raise PathError(f"{text} is no path: a path begins with $, the document; write $.{text}")
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise PathError(f"{text} is no path: {_misfit(text, at)}")
        steps.append(_step(text, found))
        at = found.end()
    return tuple(steps)


def of_name(name: str) -> str:
    """Return the path of a member of the document."""
    return f"$.{name}" if re.match(rf"{_NAME}\Z", name) else f"$[{json.dumps(name, ensure_ascii=False)}]"


def _step(text: str, found: re.Match[str]) -> str | int:
    name, index, quoted = found.group("name", "index", "quoted")
    if name is not None:
        return str(name)
    if index is not None:
        return int(index)
    inner = quoted[1:-1]
    if quoted[0] == "'":
        # As the same name in double quotes.
        inner = inner.replace("\\'", "'").replace('"', '\\"')
    try:
        return str(json.loads(f'"{inner}"', strict=False))
    except ValueError:
        raise PathError(f"{text} is no path: {quoted} is no name in quotes") from None


def _misfit(text: str, at: int) -> str:
    rest = text[at:]
    if _INDEX.match(rest.lstrip("[")) or rest.startswith(".*"):
        return f"{rest} does not name one place; write a member, .name or ['name'], or an element, [0]"
    return f"at character {at + 1} a member, .name or ['name'], or an element, [0], is expected"


def find(document: Any, path: Path) -> Any:
    """Return what stands at a path of a document that ``read`` has read; NOTHING: no such place."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(document, dict) or step not in document:
                return NOTHING
        elif not isinstance(document, list) or not -len(document) <= step < len(document):
            return NOTHING
        document = document[step]
    return document


# -- Documents ---------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_int=Literal, parse_float=Literal)


def read(text: str) -> Any:
    """Read a document, its numbers as Literal. Raises ValueError, or RecursionError."""
    return _DECODER.decode(text)


def written(value: Any) -> str:
    """Return a part of a document as JSON without white space, numbers as they were."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        members = [f"{json.dumps(name, ensure_ascii=False)}:{written(each)}" for name, each in value.items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def as_field(value: Any) -> bytes | None:
    """Return a part of a document as the field of a hash would hold it: texts without quotes, objects and
    arrays as JSON, ``null`` as None. Raises UnicodeEncodeError for half of a surrogate pair.
    """
    if value is None:
        return None
    return (value if isinstance(value, str) else written(value)).encode()
