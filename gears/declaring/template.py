"""Key templates: which keys a function covers, and which part of a key is which primary-key column.

``person:{person_id}``: text outside braces is literal, ``{{`` and ``}}`` are literal braces. ``{name}``
matches one or more bytes up to the next literal, and never a ``:``; ``{name*}``, only as the last part,
matches all the rest. The C module reads templates the same way; ``tests/vectors.json`` holds both to the
same answers.
"""

from __future__ import annotations

import itertools
import re
from typing import Callable, Iterable, NamedTuple, Sequence, Union

from gears.declaring.errors import KeyPartError, TemplateError

_COLON = b":"
_LINE = b"\n"
_SPECIAL = re.compile(rb"([*?\[\]\\^])")
"""What a pattern of Redis does not take for itself."""


class Capture(NamedTuple):
    """A ``{name}``, or with ``rest`` a ``{name*}``."""

    name: str
    rest: bool


Part = Union[bytes, Capture]


class Template:
    """A parsed key template.

    ``text`` is the template as written, ``names`` the names in their order, ``prefix`` the literal bytes
    before the first name (may be empty). Raises TemplateError, which says where, when the text is no
    template.
    """

    __slots__ = ("_all", "_parts", "_pattern", "covers", "covers_text", "names", "prefix", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: tuple[Part, ...] = tuple(_parse(text))
        self.names: tuple[str, ...] = tuple(part.name for part in self._parts if isinstance(part, Capture))
        first = self._parts[0]
        self.prefix: bytes = first if isinstance(first, bytes) else b""
        self._pattern = re.compile(b"".join(_expression(self._parts)), re.DOTALL)
        #: Tells of a key whether it is covered; the quickest way to ask.
        self.covers: Callable[[bytes], object] = self._pattern.fullmatch
        #: The same of a key that is UTF-8, as text.
        self.covers_text: Callable[[str], object] = self._of_text()
        lines = b"".join(_expression(self._parts, _LINE))
        # None: a literal holds what would part the keys.
        self._all = None if _LINE in text.encode() else re.compile(b"^" + lines + b"$", re.MULTILINE)

    def _of_text(self) -> Callable[[str], object]:
        try:
            # No character but the one of ASCII has a byte that is one of ASCII's.
            return re.compile(self._pattern.pattern.decode("ascii"), re.DOTALL).fullmatch
        except UnicodeDecodeError:
            return lambda key: self.covers(key.encode())

    def match(self, key: bytes) -> tuple[bytes, ...] | None:
        """Return the bytes that stand for each name, in the order of ``names``; None when the key is not
        covered.
        """
        found = self._pattern.fullmatch(key)
        return None if found is None else found.groups()

    def match_all(self, keys: Sequence[bytes]) -> list[tuple[bytes, ...] | None]:
        """Return ``match`` of many keys."""
        found = self._tails(keys)
        if found is not None:
            return found
        return [None if each is None else each.groups() for each in map(self._pattern.fullmatch, keys)]

    def _tails(self, keys: Sequence[bytes]) -> list[tuple[bytes, ...] | None] | None:
        """Return ``match_all`` where all keys are covered by a literal and one name; None: look closer."""
        if len(self._parts) != 2 or not self.prefix:
            return None
        width = len(self.prefix)
        texts = [key[width:] for key in keys]
        joined = b"".join(texts)
        if b"" in texts or any(byte in joined for byte in _stop_bytes(self._parts, 1)):
            return None
        if [key[:width] for key in keys].count(self.prefix) != len(texts):
            return None
        return list(zip(texts))

    def columns_of(self, keys: Sequence[bytes]) -> list[Sequence[bytes]] | None:
        """Return what ``match`` finds in many keys, all of one name, then of the next; None: it is not known
        that each key is covered.
        """
        lines = b"\n".join(keys)
        if self._all is None or lines.count(_LINE) != len(keys) - 1:
            return None
        found = self._all.findall(lines)
        if len(found) != len(keys):
            return None
        return [found] if len(self.names) == 1 else list(zip(*found))

    def format_all(self, columns: Sequence[Sequence[bytes | None]]) -> list[bytes] | None:
        """Return ``format`` of many rows, given as their columns in the order of ``names``; None: some row
        has no key.
        """
        values = iter(columns)
        pieces: list[Iterable[bytes]] = []
        for index, part in enumerate(self._parts):
            if isinstance(part, bytes):
                pieces.append(itertools.repeat(part))
                continue
            texts = [text or b"" for text in next(values)]
            joined = b"".join(texts)
            if b"" in texts or any(byte in joined for byte in _stop_bytes(self._parts, index)):
                return None
            pieces.append(texts)
        return list(map(b"".join, zip(*pieces)))

    def format(self, parts: Sequence[bytes]) -> bytes:
        """Return the key in which ``parts`` stand for the names, in the order of ``names``: what ``match``
        undoes. Raises KeyPartError, without the values, when it could not.
        """
        values = iter(parts)
        key = b"".join([part if isinstance(part, bytes) else next(values) for part in self._parts])
        if self.match(key) != tuple(parts):
            raise KeyPartError(f"a row has no key {self.text}: {self._misfit(parts)}")
        return key

    def _misfit(self, parts: Sequence[bytes]) -> str:
        """Say what keeps ``parts`` from being told apart in a key."""
        values = iter(parts)
        for index, part in enumerate(self._parts):
            if isinstance(part, Capture):
                value = next(values)
                if not value:
                    return f"{part.name} is empty"
                for byte in _stop_bytes(self._parts, index):
                    if byte in value:
                        return f"{part.name} holds {chr(byte)!r}, where its part of the key ends"
        raise AssertionError("every part fits, and the key does not match")

    def glob(self) -> bytes:
        """Return the pattern by which SCAN finds all keys that are covered, and a few others."""
        return b"".join(
            [_SPECIAL.sub(rb"\\\1", part) if isinstance(part, bytes) else b"?*" for part in self._parts]
        )

    def overlaps(self, other: Template) -> bool:
        """Return whether some key is covered by both templates."""
        ours, theirs = _steps(self._parts), _steps(other._parts)
        alphabet = {step.byte for step in ours + theirs if step.byte is not None} | {ord(":")}
        alphabet.add(next(byte for byte in range(256) if byte not in alphabet))
        seen = {(0, 0)}
        waiting = [(0, 0)]
        while waiting:
            here, there = waiting.pop()
            if here == len(ours) and there == len(theirs):
                return True
            for byte in alphabet:
                for pair in _pairs(_next(ours, here, byte), _next(theirs, there, byte)):
                    if pair not in seen:
                        seen.add(pair)
                        waiting.append(pair)
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


# -- Reading the text --------------------------------------------------------------------------------------


def _parse(text: str) -> list[Part]:
    parts: list[Part] = []
    literal = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char in "{}" and text[at + 1 : at + 2] == char:
            literal += char
            at += 2
        elif char == "{":
            if literal:
                parts.append(literal.encode())
                literal = ""
            at = _parse_capture(text, at, parts)
        elif char == "}":
            raise TemplateError(text, at, "this } closes nothing; write }} for the character itself")
        else:
            literal += char
            at += 1
    if literal:
        parts.append(literal.encode())
    if not any(isinstance(part, Capture) for part in parts):
        raise TemplateError(text, 0, "the template has no {name}; each primary-key column needs one")
    return parts


def _parse_capture(text: str, start: int, parts: list[Part]) -> int:
    """Read the ``{name}`` that starts at ``start`` into ``parts``; return the index after it."""
    end = text.find("}", start)
    if end < 0:
        raise TemplateError(text, start, "this { is not closed; write {{ for the character itself")
    name = text[start + 1 : end]
    rest = name.endswith("*")
    if rest:
        name = name[:-1]
    _check_name(text, start, name)
    if parts and isinstance(parts[-1], Capture):
        raise TemplateError(
            text, start, "two {names} stand side by side; put a literal character between them"
        )
    if any(isinstance(part, Capture) and part.name == name for part in parts):
        raise TemplateError(
            text, start, f"the name {{{name}}} appears twice; each column has one place in the key"
        )
    if rest and end + 1 != len(text):
        raise TemplateError(
            text, start, "{name*} takes all the rest of the key, so it may only stand at the end"
        )
    parts.append(Capture(name, rest))
    return end + 1


def _check_name(text: str, start: int, name: str) -> None:
    if not name:
        raise TemplateError(text, start, "this {} has no name; write the primary-key column that it fills")
    for offset, char in enumerate(name):
        if char in "{:*" or not char.isprintable():
            reason = f"a column's name in braces can't hold {char!r}"
            raise TemplateError(text, start + 1 + offset, reason)


# -- Matching ----------------------------------------------------------------------------------------------


def _stop_bytes(parts: tuple[Part, ...], index: int) -> bytes:
    """Return the bytes that end the capture at ``index``: a colon, and the first byte of the literal after
    it.
    """
    capture = parts[index]
    if isinstance(capture, Capture) and capture.rest:
        return b""
    following = parts[index + 1] if index + 1 < len(parts) else b""
    return _COLON + (following[:1] if isinstance(following, bytes) else b"")


def _expression(parts: tuple[Part, ...], without: bytes = b"") -> list[bytes]:
    """Return the pieces of a regular expression; no name takes the byte ``without``."""
    pieces = []
    for index, part in enumerate(parts):
        if isinstance(part, bytes):
            pieces.append(re.escape(part))
        elif part.rest:
            pieces.append(b"([^" + without + b"]+)" if without else b"(.+)")
        else:
            pieces.append(b"([^" + re.escape(_stop_bytes(parts, index)) + without + b"]+)")
    return pieces


class _Step(NamedTuple):
    """One byte of a key, as a template allows it: ``byte``, or (None) any but ``excluded``; ``repeats`` is
    one or more.
    """

    byte: int | None
    excluded: bytes
    repeats: bool


def _steps(parts: tuple[Part, ...]) -> list[_Step]:
    steps: list[_Step] = []
    for index, part in enumerate(parts):
        if isinstance(part, bytes):
            steps.extend(_Step(byte, b"", False) for byte in part)
        else:
            steps.append(_Step(None, _stop_bytes(parts, index), True))
    return steps


def _next(steps: list[_Step], at: int, byte: int) -> list[int]:
    """Return where a key can stand in ``steps`` after one more ``byte``; ``at`` counts the steps that are
    satisfied.
    """
    places = []
    if at > 0 and steps[at - 1].repeats and byte not in steps[at - 1].excluded:
        places.append(at)
    if at < len(steps):
        step = steps[at]
        if step.byte == byte or (step.byte is None and byte not in step.excluded):
            places.append(at + 1)
    return places


def _pairs(ours: list[int], theirs: list[int]) -> list[tuple[int, int]]:
    return [(here, there) for here in ours for there in theirs]
