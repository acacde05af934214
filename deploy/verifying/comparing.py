"""Many keys at once against their rows: which ones seem to differ, for a closer look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from connectors import Connector, ConversionError
from connectors.checksums import Checksums
from connectors.errors import Refused
from deploy.verifying.expected import Expected, Expecter, Image, Row

MOST_ALIASES = 1_000_000
"""How many keys are remembered that are not written as their rows' own keys are."""
TRIES = 5
"""After so many chunks whose checksums all differ, rows are read at once, but for one in some."""
NOW_AND_THEN = 16
MOST_DIGITS = 18
ZERO = ord("0")


class Comparer:
    """Compares hashes of one function with their rows. Several threads may share it."""

    def __init__(self, expecter: Expecter, connector: Connector) -> None:
        self.expecter = expecter
        self._connector = connector
        self._table = expecter.function.mapping.table
        self._template = expecter.function.mapping.keys
        names = expecter.function.mapping.primary_key
        self._key_texts = [expecter.table.columns[name].text.encode for name in names]
        self._part_order = [expecter.table.primary_key.index(name) for name in names]
        self._sums = connector.checksums(self._table, expecter.columns) if expecter.is_plain else None
        self._width = len(expecter.columns)
        self._in_vain = 0
        #: Keys as rows would have them, of which there are hashes by another name: ``7`` for ``007``.
        self.aliases: set[bytes] = set()

    def differing(self, keys: Sequence[bytes], images: Sequence[Image]) -> list[bytes]:
        """Return the keys whose rows are not what is expected; all keys have hashes."""
        if not self.expecter.is_plain:
            return self.differing_one_by_one(keys, images)
        try:
            places = self._places(keys)
        except ConversionError:
            return self.differing_one_by_one(keys, images)
        # A function without transform captures just the fields of its columns.
        if self._sums is not None and self._agree(self._sums, places, images):
            return []
        rows = self.rows(places)
        return [
            key
            for key, place, image, row in zip(keys, places, images, rows)
            if row is None or (list(row) != image and self._differs(place, image, row))
        ]

    def differing_one_by_one(self, keys: Sequence[bytes], images: Sequence[Image]) -> list[bytes]:
        """Do as ``differing`` where a key may have no row, or another one than its name says."""
        wanted = [self.expecter.expect(key, image) for key, image in zip(keys, images)]
        rows = self.rows_of(wanted)
        difference = self.expecter.difference
        return [key for key, each, row in zip(keys, wanted, rows) if difference(each, row) is not None]

    def rows_of(self, wanted: Sequence[Expected]) -> list[Row]:
        """Return the row of each; None: there is none, or none can be."""
        found = iter(self.rows([each.place for each in wanted if each.place is not None]))
        return [None if each.place is None else next(found) for each in wanted]

    def rows(self, places: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return the row of each primary key."""
        return list(self._connector.read(self._table, places, self.expecter.columns))

    def _differs(self, place: tuple[Any, ...], image: Image, row: Row) -> bool:
        expected = Expected(place, dict(zip(self.expecter.columns, image or ())))
        return self.expecter.difference(expected, row) is not None

    def _agree(self, sums: Checksums, places: list[tuple[Any, ...]], images: Sequence[Image]) -> bool:
        if self._in_vain >= TRIES and self._in_vain % NOW_AND_THEN:
            self._in_vain += 1
            return False
        known = [image or () for image in images]
        ours = sums.local(places, known)
        try:
            agree = ours is not None and ours == sums.remote(places)
        except Refused:
            # A key is none of the type: reading tells which.
            agree = False
        self._in_vain = 0 if agree else self._in_vain + 1
        return agree

    def _places(self, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Return which row is each key's by its name, and note names that are not the row's own."""
        found = self._template.match_all(keys)
        parts = [each for each in found if each is not None]
        assert len(parts) == len(found), "the keys were chosen by the template"
        texts = list(zip(*parts))
        columns = [_converted(convert, texts[at]) for at, convert in self.expecter.key_order]
        places = list(zip(*columns))
        if not all(
            _are_plain(texts[at], values) for (at, _), values in zip(self.expecter.key_order, columns)
        ):
            for each, place in zip(parts, places):
                self._note(each, place)
        return places

    def _note(self, parts: tuple[bytes, ...], place: tuple[Any, ...]) -> None:
        for part, at, encode in zip(parts, self._part_order, self._key_texts):
            value = place[at]
            if type(value) is not str and (b"%d" % value if type(value) is int else encode(value)) != part:
                break
        else:
            return
        if len(self.aliases) < MOST_ALIASES:
            texts = [encode(place[at]) for at, encode in zip(self._part_order, self._key_texts)]
            self.aliases.add(self._template.format(texts))


def _converted(convert: Callable[[object], Any], texts: Sequence[bytes]) -> Sequence[Any]:
    """Convert the parts of many keys for one column; whole numbers, which most are, all at once."""
    if b"".join(texts).isdigit() and b"" not in texts and max(map(len, texts)) <= MOST_DIGITS:
        numbers = list(map(int, texts))
        ends = [convert(b"%d" % end) for end in (min(numbers), max(numbers))]
        if type(ends[0]) is int and ends == [min(numbers), max(numbers)]:
            return numbers
    return [convert(text) for text in texts]


def _are_plain(texts: Sequence[bytes], values: Sequence[Any]) -> bool:
    """Whether rows surely write their keys as these parts of keys are."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return b"".join(texts).isdigit() and not any(text[0] == ZERO and len(text) > 1 for text in texts)
    return kinds == {str}
