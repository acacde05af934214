"""Which functions cover which keys, with many functions as fast as with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gears.applying.conversion import Converter


class Match(NamedTuple):
    """The keys that one function covers: their indexes (None: all keys), and what its template matched in
    them, all of one name, then of the next.
    """

    converter: Converter
    indexes: Sequence[int] | None
    parts: Sequence[Sequence[bytes]]


class Matching:
    """Looks functions up by the bytes with which their keys begin."""

    def __init__(self, converters: Sequence[Converter]) -> None:
        self._converters = converters
        #: Whether the last state of a key stands for those before, whatever function covers it.
        self.coalesces = all(each.coalesces for each in converters)
        self._by_prefix: dict[int, dict[bytes, list[int]]] = {}
        for number, converter in enumerate(converters):
            prefix = converter.mapping.keys.prefix
            self._by_prefix.setdefault(len(prefix), {}).setdefault(prefix, []).append(number)

    def of_key(self, key: bytes) -> Iterator[tuple[Converter, tuple[bytes, ...]]]:
        """Yield the functions that cover a key, in their order, each with what its template matched."""
        numbers = [
            number for length, known in self._by_prefix.items() for number in known.get(key[:length], ())
        ]
        for number in sorted(numbers):
            parts = self._converters[number].match(key)
            if parts is not None:
                yield self._converters[number], parts

    def of_keys(self, keys: Sequence[bytes]) -> list[Match]:
        """Return the keys of each function that covers some, in the order of the functions."""
        if len(self._converters) == 1:
            return _matches(self._converters[0], keys, None)
        indexes: dict[int, list[int]] = {}
        for length, known in self._by_prefix.items():
            for index, key in enumerate(keys):
                for number in known.get(key[:length], ()):
                    indexes.setdefault(number, []).append(index)
        return [
            match
            for number in sorted(indexes)
            for match in _matches(
                self._converters[number], [keys[index] for index in indexes[number]], indexes[number]
            )
        ]


def _matches(converter: Converter, keys: Sequence[bytes], indexes: Sequence[int] | None) -> list[Match]:
    """Return the match of those of ``keys`` that are covered, if any is; ``indexes`` are theirs."""
    columns = converter.mapping.keys.columns_of(keys)
    if columns is not None:
        return [Match(converter, indexes, columns)]
    found = converter.mapping.keys.match_all(keys)
    parts = [each for each in found if each is not None]
    if len(parts) < len(found):
        of_keys = range(len(keys)) if indexes is None else indexes
        indexes = [index for index, each in zip(of_keys, found) if each is not None]
    return [Match(converter, indexes, list(zip(*parts)))] if parts else []
