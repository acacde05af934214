"""Key templates that keys have in common: ``person:123`` and ``person:124`` are ``person:{id}``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from deploy.drafts.draft import literal
from gears.declaring.template import Template

# What stands between the parts of a key; it is kept, as a part of its own.
_SEPARATORS = re.compile(r"([:/|#{}])")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_HEX = r"(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{12,}"
# A word that is glued to what varies: person-123, user_1, order7.
_GLUED = re.compile(rf"([A-Za-z][A-Za-z_.-]*?[-_.]?)([0-9]+|{_UUID}|{_HEX})\Z")
_VARIES = re.compile(rf"(?:-?[0-9][0-9.,-]*|{_UUID}|{_HEX}|[0-9A-HJKMNP-TV-Z]{{26}}|[^@]+@[^@]+\.[^@]+)\Z")
#: More words than these at one place are values, not names.
_MOST_WORDS = 20
_WORD = re.compile("[A-Za-z]+")

VARIES = None
"""Stands for a part that varies."""

Parts = tuple[Optional[str], ...]
_Rows = list[tuple[list[str], str]]


class Cluster(NamedTuple):
    """Keys of one shape: ``parts`` are literal texts, or VARIES; no two of those stand side by side."""

    parts: Parts
    keys: list[str]

    @property
    def is_kind(self) -> bool:
        """Whether it has a part that varies, and a word before it: else it would be one key, or all."""
        first = self.parts.index(VARIES) if VARIES in self.parts else 0
        return any(map(is_word, self.parts[:first]))


def split(key: str) -> list[str]:
    """Split a key into parts with what stands between them; joined they are the key again."""
    parts: list[str] = []
    for part in _SEPARATORS.split(key):
        glued = _GLUED.match(part)
        parts += glued.groups() if glued else (part,)
    return parts


def cluster(keys: Iterable[str]) -> list[Cluster]:
    """Sort keys into clusters, the largest first. A cluster without a part that varies has one key."""
    by_shape: dict[tuple[str, ...], _Rows] = {}
    for key in dict.fromkeys(keys):
        parts = split(key)
        # A glued number makes a shape of its own, and so do the separators.
        shape = (str(len(parts)), *(part for part in parts if _SEPARATORS.fullmatch(part)))
        by_shape.setdefault(shape, []).append((parts, key))
    found: dict[Parts, list[str]] = {}
    for rows in by_shape.values():
        for parts_of, of_parts in _divide(rows):
            found.setdefault(parts_of, []).extend(of_parts)
    clusters = _absorbed([Cluster(*each) for each in found.items()])
    return sorted(clusters, key=lambda each: (-len(each.keys), str(each.parts)))


def _absorbed(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Give single keys to the cluster whose template covers them: user:ada to user:{id}."""
    kinds = [each for each in clusters if each.is_kind]
    templates = [Template(template(each.parts, names_of(each.parts))) for each in kinds]
    others = []
    for each in clusters:
        if not each.is_kind:
            covering = (at for at, found in enumerate(templates) if found.match(each.keys[0].encode()))
            at = next(covering, None) if VARIES not in each.parts else None
            if at is None:
                others.append(each)
            else:
                kinds[at].keys.extend(each.keys)
    return kinds + others


def _divide(rows: _Rows) -> Iterator[tuple[Parts, list[str]]]:
    """Divide keys of as many parts by what their parts are, from left to right."""
    waiting: list[tuple[Parts, _Rows]] = [((), rows)]
    while waiting:
        before, group = waiting.pop()
        at = len(before)
        if at == len(group[0][0]):
            yield _joined(before), [key for _, key in group]
            continue
        names = _names([parts[: at + 2] for parts, _ in group], at)
        divided: dict[str | None, _Rows] = {}
        for row in group:
            part = row[0][at]
            divided.setdefault(part if part in names else VARIES, []).append(row)
        waiting += [((*before, name), each) for name, each in divided.items()]


def _joined(parts: Parts) -> Parts:
    """Return parts in which those that vary side by side are one."""
    return tuple(
        part
        for index, part in enumerate(parts)
        if part is not VARIES or not index or parts[index - 1] is not VARIES
    )


def _names(heads: Sequence[Sequence[str]], at: int) -> set[str]:
    """Return which of the parts at one place are names that stand for themselves: texts that recur.

    ``heads`` are the parts of each key up to the one behind that place.
    """
    counts = Counter(head[at] for head in heads)
    fixed = {part for part in counts if not part or _SEPARATORS.fullmatch(part)}
    words = {part for part in counts if part not in fixed and not _VARIES.match(part)}
    if at == 0:
        return fixed | words
    if len(counts) == 1 and len(heads) > 1 and not _SEPARATORS.fullmatch(heads[0][at - 1] or ":"):
        # The number of v1, say.
        return set(counts)
    least = max(2, len(heads) // 100)
    if len(heads[0]) > at + 1 and not _SEPARATORS.fullmatch(heads[0][at + 1]):
        # A word before a number, as in bob42, is one of many, unless most have it.
        least = max(least, 5, len(heads) // 3)
    recurring = {word for word in words if counts[word] >= min(least, len(heads))}
    return fixed | (recurring if len(recurring) <= _MOST_WORDS else set())


def template(parts: Sequence[str | None], names: Sequence[str]) -> str:
    """Return the key template of a cluster, with ``names`` for what varies."""
    left = iter(names)
    return "".join(f"{{{next(left)}}}" if part is VARIES else literal(part) for part in parts)


def names_of(parts: Sequence[str | None]) -> list[str]:
    """Return names for what varies: ``id`` for one, else by the words before them."""
    count = sum(part is VARIES for part in parts)
    names: list[str] = []
    word = ""
    for part in parts:
        if part is VARIES:
            name = f"{word}_id" if count > 1 and word else "id"
            names.append(name if name not in names else f"{name}_{len(names) + 1}")
            word = ""
        elif _WORD.search(part):
            word = snake(part)
    return names


def words_of(parts: Sequence[str | None]) -> list[str]:
    """Return the literal words of a cluster, as they name a table."""
    return [snake(part) for part in parts if part is not VARIES and _WORD.search(part)]


def is_word(part: str | None) -> bool:
    """Whether a part is a literal word."""
    return part is not VARIES and bool(_WORD.search(part))


def snake(text: str) -> str:
    """Return ``firstName`` or ``First Name`` as ``first_name``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"\W+", "_", apart).strip("_").lower()[:60] or "value"
