"""Computed columns: texts over the fields of a hash, the parts of its key, and what is known of the change.

``{first} {last}``: a name in braces is a part of the key if ``keys`` has that name, else a field of the hash;
``{@time}`` and the other NAMED are values of the change. ``{{`` and ``}}`` are literal braces.
"""

from __future__ import annotations

import re
from typing import Any, Callable, NamedTuple, Sequence, Union

FIELD, KEY, VALUE = "field", "key", "value"
NAMED = ("time", "id", "epoch", "key", "deployment", "shard")
"""What stands behind an ``@``: when the change was made, its stream id and epoch, its key, and where from."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]|[^{}]+")


class Name(NamedTuple):
    """A name in braces; ``kind`` is one of FIELD, KEY and VALUE."""

    kind: str
    name: str


Part = Union[str, Name]


class ExpressionError(Exception):
    """A text is no expression; the message is a sentence about why."""


class Expression(NamedTuple):
    """A parsed text, with its ``parts`` in order."""

    text: str
    parts: tuple[Part, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the hash that it names."""
        return tuple(part.name for part in self.parts if isinstance(part, Name) and part.kind == FIELD)

    def value(self, find: Callable[[Name], Any], as_text: Callable[[Any], str]) -> Any:
        """Return its value for one change; ``find`` gives that of a name, None: the hash lacks the field.

        One name alone has its value as it is; else ``as_text`` makes texts, and None for one name is None for
        all of it.
        """
        if len(self.parts) == 1 and isinstance(self.parts[0], Name):
            return find(self.parts[0])
        pieces = []
        for part in self.parts:
            value = part if isinstance(part, str) else find(part)
            if value is None:
                return None
            pieces.append(as_text(value))
        return "".join(pieces)


def parse(text: str, key_names: Sequence[str]) -> Expression:
    """Read an expression; ``key_names`` are those of the key template. Raises ExpressionError."""
    parts: list[Part] = []
    literal = ""
    for piece in _PIECE.finditer(text):
        written = piece.group()
        if written in ("{{", "}}"):
            literal += written[0]
        elif piece.group(1) is not None:
            if literal:
                parts.append(literal)
            literal = ""
            parts.append(_name(piece.group(1), key_names))
        elif written in "{}":
            raise ExpressionError(f"a brace stands alone in {text!r}; write {{{{ or }}}} for the character")
        else:
            literal += written
    if literal:
        parts.append(literal)
    if not any(isinstance(part, Name) for part in parts):
        raise ExpressionError(f"{text!r} names nothing in braces; what never changes belongs in constants")
    return Expression(text, tuple(parts))


def _name(name: str, key_names: Sequence[str]) -> Name:
    if not name.startswith("@"):
        return Name(KEY if name in key_names else FIELD, name)
    if name[1:] not in NAMED:
        known = ", ".join(f"{{@{each}}}" for each in NAMED)
        raise ExpressionError(f"there is no {{{name}}}; there are {known}")
    return Name(VALUE, name[1:])
