"""Keys that are many rows: sets, lists and sorted sets against all rows of theirs.

An image is a list of members as pairs of bytes, as the worker reads them, or a text that says why they can't
be taken. The row of such a key is a tuple of the texts of its rows: of a member, and of its value, if that
has a column.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from connectors import Column, Connector, ConversionError
from deploy.reaching.shards import Shard
from deploy.verifying.aliases import Aliases
from deploy.verifying.comparing import Portion
from deploy.verifying.expected import (
    DIFFERS,
    EXTRA,
    MISSING,
    SOME_ID,
    Difference,
    Expected,
    Expecter,
    Image,
    Row,
)
from deploy.verifying.hashes import Hashes
from deploy.verifying.trying import Trying
from gears.applying import change as changes
from gears.applying.change import Change
from gears.applying.conversion import RowFault
from gears.applying.members import IMAGES
from gears.declaring.functions import Function

AT_ONCE = 100
"""How many keys are compared at once,"""
MEMBERS_AT_ONCE = 20_000
"""or so many members, whichever is less; one key alone may have more."""


class MembersExpecter(Expecter):
    """Tells what is to be expected for a function whose keys are many rows."""

    def __init__(self, function: Function, connector: Connector, deployment: str) -> None:
        super().__init__(function, None, connector, deployment)
        mapping = function.mapping
        of_field, of_value = IMAGES[mapping.type]
        #: The columns of the key of Redis.
        self.parents = mapping.keys.names
        value = mapping.columns.get(of_value)
        self.columns = (mapping.columns[of_field], *([value] if value else []))
        self.key_order = tuple((at, self.table.columns[name].convert) for at, name in enumerate(self.parents))

    def expect(self, key: bytes, image: Image) -> Expected:
        parts = self.match(key)
        place = None if parts is None else self.own_place(parts)
        if parts is None or image is None:
            return Expected(place, gone=True)
        if isinstance(image, str):
            return Expected(place, fault=True, reason=image)
        fields, values = zip(*image)
        try:
            row = self._converter.row(
                Change(SOME_ID, key, changes.UPSERT + b"0", fields, list(values)), changes.UPSERT, parts
            )
        except RowFault as error:
            return Expected(place, fault=True, reason=error.fault.reason, column=error.fault.column)
        width = len(self.parents)
        found = () if row is None else row.members
        return Expected(place, {member[width]: member[width + 1 :] for member in found})

    def difference(self, expected: Expected, row: Row) -> Difference | None:
        if expected.gone:
            return None if row is None else Difference(EXTRA, rows={EXTRA: len(row)})
        if row is None:
            return Difference(MISSING, reason=expected.reason, rows={MISSING: len(expected.values)})
        if expected.fault:
            return Difference(DIFFERS, (expected.column,) if expected.column else (), expected.reason)
        counts, columns = self._counted(expected, row)
        return Difference(DIFFERS, tuple(columns), rows=counts) if counts else None

    def _counted(self, expected: Expected, rows: Row) -> tuple[dict[str, int], list[str]]:
        """Return how many rows of a key are missing, extra, or differ, and in which columns."""
        told = self.table.columns[self.columns[0]]
        there = {_converted(told, row[0]): row[1:] for row in rows}
        counts = Counter({EXTRA: len(rows) - len(expected.values.keys() & there.keys())})
        wrong: dict[str, None] = {}
        for member, values in expected.values.items():
            stored = there.get(member)
            if stored is None:
                counts[MISSING] += 1
                continue
            columns = [
                name
                for name, given, text in zip(self.columns[1:], values, stored)
                if not self._is_same(self.table.columns[name], given, text)
            ]
            counts[DIFFERS] += bool(columns)
            wrong.update(dict.fromkeys(columns))
        if counts[MISSING] or counts[EXTRA]:
            wrong.setdefault(self.columns[0])
        return {kind: count for kind, count in counts.items() if count}, list(wrong)


def _converted(column: Column, text: bytes | None) -> Any:
    """Return a text of the database as the column converts it; as it is if it would not take it."""
    try:
        return column.convert(text)
    except ConversionError:
        return text


class MembersComparer:
    """Compares keys of one function with all their rows. Several threads may share it."""

    def __init__(self, expecter: MembersExpecter, connector: Connector) -> None:
        self.expecter = expecter
        self._connector = connector
        self._table = expecter.table.name
        self._columns = (*expecter.parents, *expecter.columns)
        self._sums = connector.child_checksums(self._table, expecter.parents, self._columns)
        self._trying = Trying()
        self.aliases = Aliases(expecter.function, range(len(expecter.parents)))

    def portions(self, shard: Shard, hashes: Hashes, keys: Sequence[bytes]) -> Iterator[Portion]:
        """Yield keys of a shard with what they hold, so many at a time as go into memory."""
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            sizes = hashes.sizes(shard, part)
            ends = [0]
            room = MEMBERS_AT_ONCE
            for at, size in enumerate(sizes):
                if size > room and at > ends[-1]:
                    ends.append(at)
                    room = MEMBERS_AT_ONCE
                room -= size
            for begin, end in zip(ends, [*ends[1:], len(part)]):
                yield part[begin:end], hashes.images(shard, part[begin:end])

    def differing(self, keys: Sequence[bytes], images: Sequence[Image]) -> list[bytes]:
        """Return the keys whose rows are not what is expected; all keys are there."""
        if self._agree(keys, images):
            return []
        wanted = [self.expecter.expect(key, image) for key, image in zip(keys, images)]
        rows = self.rows_of(keys, wanted)
        difference = self.expecter.difference
        return [key for key, each, row in zip(keys, wanted, rows) if difference(each, row) is not None]

    def note(self, keys: Sequence[bytes]) -> None:
        """Remember which of these keys are not as their rows' own keys would be."""
        self.rows_of(keys, [self.expecter.expect(key, None) for key in keys])

    def rows_of(self, keys: Sequence[bytes], wanted: Sequence[Expected]) -> list[Row]:
        """Return the rows of each; None: there are none, or none can be."""
        places = list(dict.fromkeys(each.place for each in wanted if each.place is not None))
        parents = self.expecter.parents
        converts = [self.expecter.table.columns[name] for name in parents]
        found: dict[Any, list[Any]] = {}
        texts: dict[Any, Sequence[bytes | None]] = {}
        for row in self._connector.children(self._table, parents, places, self.expecter.columns):
            place = tuple(map(_converted, converts, row))
            found.setdefault(place, []).append(tuple(row[len(parents) :]))
            texts[place] = row[: len(parents)]
        for key, each in zip(keys, wanted):
            parts = self.expecter.match(key)
            if parts is not None and each.place in texts:
                self.aliases.note(parts, texts[each.place])
        # In an order of their own, so that two looks at the same rows are alike.
        rows = {place: tuple(sorted(each, key=_in_order)) for place, each in found.items()}
        return [None if each.place is None else rows.get(each.place) for each in wanted]

    def _agree(self, keys: Sequence[bytes], images: Sequence[Image]) -> bool:
        places = [self.expecter.expect(key, None).place for key in keys]
        known = []
        for key, place in zip(keys, places):
            parts = self.expecter.match(key)
            if parts is not None and place is not None:
                known.append((parts, place))
        sums = self._sums
        if sums is None or len(known) < len(keys) or any(isinstance(image, str) for image in images):
            return False
        width = len(self.expecter.columns)
        members = ([(*parts, *pair[:width]) for pair in image] for (parts, _), image in zip(known, images))
        rows = list(itertools.chain.from_iterable(members))
        return self._trying.agree(
            lambda: sums.local(rows), lambda: sums.remote([place for _, place in known])
        )


def _in_order(row: Sequence[bytes | None]) -> list[bytes]:
    return [text or b"" for text in row]
