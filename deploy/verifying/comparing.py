"""Many keys at once against their rows: which ones seem to differ, for a closer look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from connectors import Connector, ConversionError
from deploy.reaching.shards import Shard
from deploy.verifying.aliases import Aliases
from deploy.verifying.expected import Expected, Expecter, Image, Row
from deploy.verifying.hashes import Hashes
from deploy.verifying.trying import Trying

Portion = tuple[Sequence[bytes], Sequence[Image]]

MOST_DIGITS = 18


class Comparer:
    """Compares keys of one function, a row each, with their rows. Several threads may share it."""

    def __init__(self, expecter: Expecter, connector: Connector) -> None:
        self.expecter = expecter
        self._connector = connector
        self._table = expecter.function.mapping.table
        self._template = expecter.function.mapping.keys
        self._sums = connector.checksums(self._table, expecter.columns)
        self._trying = Trying()
        #: Keys as rows would have them, of which there are hashes by another name: ``7`` for ``007``.
        self.aliases = Aliases(expecter.function, expecter.table, [at for at, _ in expecter.key_order])

    def portions(self, shard: Shard, hashes: Hashes, keys: Sequence[bytes]) -> Iterator[Portion]:
        """Yield keys of a shard with what they hold, so many at a time as go into memory."""
        yield keys, hashes.images(shard, keys)

    def differing(self, keys: Sequence[bytes], images: Sequence[Image]) -> list[bytes]:
        """Return the keys whose rows are not what is expected; all keys are there."""
        if not self.expecter.is_plain:
            return self.differing_one_by_one(keys, images)
        try:
            places = self._places(keys)
        except ConversionError:
            return self.differing_one_by_one(keys, images)
        # A function without transform captures just the fields of its columns.
        if self._agree(places, images):
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
        self._note_aliases(keys, wanted)
        known = [each for each in wanted if each.is_row]
        texts = [
            [self._text(name, each.values.get(name)) for name in self.expecter.columns] for each in known
        ]
        if known and self._agree([each.place or () for each in known], texts):
            # Those that have no row of their own are left.
            pairs = [(key, each) for key, each in zip(keys, wanted) if not each.is_row]
            keys, wanted = [key for key, _ in pairs], [each for _, each in pairs]
        rows = self.rows_of(wanted)
        difference = self.expecter.difference
        return [key for key, each, row in zip(keys, wanted, rows) if difference(each, row) is not None]

    def _text(self, name: str, value: Any) -> bytes | None:
        """Return the bytes of a field that would be a value."""
        if value is None or type(value) is bytes:
            return value
        return self.expecter.table.columns[name].text.encode(value)

    def _note_aliases(self, keys: Sequence[bytes], wanted: Sequence[Expected]) -> None:
        if self.expecter.moves_rows:
            return
        for key, each in zip(keys, wanted):
            parts = self._template.match(key)
            if parts is not None and each.place is not None:
                self.aliases.note(parts, each.place)

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

    def _agree(self, places: Sequence[tuple[Any, ...]], images: Sequence[Sequence[bytes | None]]) -> bool:
        sums = self._sums
        if sums is None:
            return False
        return self._trying.agree(lambda: sums.local(places, images), lambda: sums.remote(places))

    def _places(self, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Return which row is each key's by its name, and note names that are not the row's own."""
        found = self._template.match_all(keys)
        parts = [each for each in found if each is not None]
        if len(parts) != len(found):
            raise ValueError("a key that the function's template does not take was to be compared")
        texts = list(zip(*parts))
        columns = [_converted(convert, texts[at]) for at, convert in self.expecter.key_order]
        places = list(zip(*columns))
        if not all(
            _are_plain(texts[at], values) for (at, _), values in zip(self.expecter.key_order, columns)
        ):
            for each, place in zip(parts, places):
                self.aliases.note(each, place)
        return places


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
        return [b"%d" % value for value in values] == list(texts)
    # Another text than the key's: of a UUID in capitals, say.
    return kinds == {str} and [value.encode() for value in values] == list(texts)
