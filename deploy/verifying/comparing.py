"""Many keys at once against their rows: which ones seem to differ, for a closer look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from connectors import Connector, ConversionError
from deploy.loading.portions import Size
from deploy.reaching.shards import Shard
from deploy.verifying.aliases import Aliases, is_whole
from deploy.verifying.expected import Expected, Expecter, Image, Row
from deploy.verifying.hashes import Hashes
from deploy.verifying.trying import Trying

Portion = tuple[Sequence[bytes], Sequence[Image]]

MOST_DIGITS = 18
MOST = 2000
"""How many keys are read at once."""


class Comparer:
    """Compares keys of one function, a row each, with their rows. Several threads may share it."""

    def __init__(self, expecter: Expecter, connector: Connector) -> None:
        self.expecter = expecter
        self._connector = connector
        self._table = expecter.function.mapping.table
        self._template = expecter.function.mapping.keys
        key = expecter.table.primary_key
        #: What is read of the key itself, where the database alone knows how it writes it: 1.50 for 1.5.
        self._key = () if all(is_whole(expecter.table.columns[name]) for name in key) else key
        self._width = len(expecter.columns)
        self._columns = (*expecter.columns, *self._key)
        tells = expecter.key_tells or not self._key
        self._sums = connector.checksums(self._table, self._columns) if tells else None
        self._trying = Trying()
        self.size = Size(MOST)
        #: Keys as rows would have them, of which there are hashes by another name: ``7`` for ``007``.
        self.aliases = Aliases(expecter.function, [at for at, _ in expecter.key_order])

    def portions(self, shard: Shard, hashes: Hashes, keys: Sequence[bytes]) -> Iterator[Portion]:
        """Yield keys of a shard with what they hold, so many at a time as go into memory."""
        start = 0
        while start < len(keys):
            part = keys[start : start + self.size.keys]
            images = hashes.images(shard, part)
            self.size.learn([each for each in images if each is not None])
            yield part, images
            start += len(part)

    def differing(self, keys: Sequence[bytes], images: Sequence[Image]) -> list[bytes]:
        """Return the keys whose rows are not what is expected; all keys are there."""
        if not self.expecter.is_plain:
            return self.differing_one_by_one(keys, images)
        try:
            places = self._places(keys)
        except ConversionError:
            return self.differing_one_by_one(keys, images)
        # A function without transform captures just the fields of its columns.
        if self._agree(keys, places, images):
            return []
        rows = self._rows(keys, places)
        return [
            key
            for key, place, image, row in zip(keys, places, images, rows)
            if row is None or (list(row) != image and self._differs(place, image, row))
        ]

    def differing_one_by_one(self, keys: Sequence[bytes], images: Sequence[Image]) -> list[bytes]:
        """Do as ``differing`` where a key may have no row, or another one than its name says."""
        wanted = [self.expecter.expect(key, image) for key, image in zip(keys, images)]
        known = [(key, each) for key, each in zip(keys, wanted) if each.is_row]
        texts = [
            [self._text(name, each.values.get(name)) for name in self.expecter.columns] for _, each in known
        ]
        places = [each.place or () for _, each in known]
        if not self._key:
            self._note_numbers(keys, wanted)
        if known and self._agree([key for key, _ in known], places, texts):
            # Those that have no row of their own are left.
            pairs = [(key, each) for key, each in zip(keys, wanted) if not each.is_row]
            keys, wanted = [key for key, _ in pairs], [each for _, each in pairs]
        rows = self.rows_of(keys, wanted)
        difference = self.expecter.difference
        return [key for key, each, row in zip(keys, wanted, rows) if difference(each, row) is not None]

    def _text(self, name: str, value: Any) -> bytes | None:
        """Return the bytes of a field that would be a value."""
        if value is None or type(value) is bytes:
            return value
        return self.expecter.table.columns[name].text.encode(value)

    def note(self, keys: Sequence[bytes]) -> None:
        """Remember which of these keys are not as their rows' own keys would be."""
        wanted = [Expected(self._own_place(key)) for key in keys]
        if self._key:
            self.rows_of(keys, wanted)
        else:
            self._note_numbers(keys, wanted)

    def _own_place(self, key: bytes) -> tuple[Any, ...] | None:
        parts = self._template.match(key)
        return None if parts is None else self.expecter.own_place(parts)

    def _note_numbers(self, keys: Sequence[bytes], wanted: Sequence[Expected]) -> None:
        for key, each in zip(keys, wanted):
            if each.place is not None:
                self._note(key, [b"%d" % number for number in each.place])

    def _note(self, key: bytes, texts: Sequence[bytes | None]) -> None:
        parts = None if self.expecter.moves_rows else self._template.match(key)
        if parts is not None:
            self.aliases.note(parts, texts)

    def rows_of(self, keys: Sequence[bytes], wanted: Sequence[Expected]) -> list[Row]:
        """Return the row of each; None: there is none, or none can be."""
        pairs = [(key, each.place) for key, each in zip(keys, wanted) if each.place is not None]
        found = iter(self._rows([key for key, _ in pairs], [place for _, place in pairs]))
        return [None if each.place is None else next(found) for each in wanted]

    def _rows(self, keys: Sequence[bytes], places: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return the row of each primary key, and note names that are not the row's own."""
        rows: list[Row] = list(self._connector.read(self._table, places, self._columns))
        if not self._key:
            return rows
        for key, row in zip(keys, rows):
            if row is not None:
                self._note(key, row[self._width :])
        return [None if row is None else row[: self._width] for row in rows]

    def _differs(self, place: tuple[Any, ...], image: Image, row: Row) -> bool:
        expected = Expected(place, dict(zip(self.expecter.columns, image or ())))
        return self.expecter.difference(expected, row) is not None

    def _agree(
        self,
        keys: Sequence[bytes],
        places: Sequence[tuple[Any, ...]],
        images: Sequence[Sequence[bytes | None]],
    ) -> bool:
        sums = self._sums
        if sums is None:
            return False
        if self._key:
            order = [at for at, _ in self.expecter.key_order]
            parts = [each or () for each in self._template.match_all(keys)]
            images = [(*image, *(each[at] for at in order)) for image, each in zip(images, parts)]
        return self._trying.agree(lambda: sums.local(places, images), lambda: sums.remote(places))

    def _places(self, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Return which row is each key's by its name, and note numbers that are not written as the row's."""
        found = self._template.match_all(keys)
        parts = [each for each in found if each is not None]
        if len(parts) != len(found):
            raise ValueError("a key that the function's template does not take was to be compared")
        texts = list(zip(*parts))
        columns = [_converted(convert, texts[at]) for at, convert in self.expecter.key_order]
        places = list(zip(*columns))
        if not self._key and not all(
            _are_plain(texts[at], values) for (at, _), values in zip(self.expecter.key_order, columns)
        ):
            for each, place in zip(parts, places):
                self.aliases.note(each, [b"%d" % number for number in place])
        return places


def _converted(convert: Callable[[object], Any], texts: Sequence[bytes]) -> Sequence[Any]:
    """Convert the parts of many keys for one column; whole numbers, which most are, all at once."""
    if b"".join(texts).isdigit() and b"" not in texts and max(map(len, texts)) <= MOST_DIGITS:
        numbers = list(map(int, texts))
        ends = [convert(b"%d" % end) for end in (min(numbers), max(numbers))]
        if type(ends[0]) is int and ends == [min(numbers), max(numbers)]:
            return numbers
    return [convert(text) for text in texts]


def _are_plain(texts: Sequence[bytes], values: Sequence[int]) -> bool:
    """Whether numbers are written as these parts of keys are."""
    return [b"%d" % value for value in values] == list(texts)
