"""Row operations a column at a time: what the most of a batch is, with no object a row.

Whoever asks for a row gets a RowOp, which is made then: that is so for rows that are refused, or that are
written one after another.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

from connectors.rows import Group, RowOp, groups, waves


class Block(Sequence[RowOp]):
    """Row operations that differ in their values alone, which are held a column at a time.

    ``values``: of each column the values of all rows, the primary key's ``width`` columns first; of deletes
    there are no others. ``places``: where each row stands in its batch. The other arguments are those of
    RowOp; ``origin_at`` gives the origin of the row at an index.
    """

    def __init__(
        self,
        table: str,
        kind: str,
        width: int,
        columns: tuple[str, ...],
        values: Sequence[Sequence[Any]],
        places: Sequence[int],
        origin_at: Callable[[int], object],
        nulls: tuple[str, ...] = (),
        defaults: tuple[str, ...] = (),
        mark: str = "",
        resets: tuple[str, ...] = (),
    ) -> None:
        self.values = values
        self.places = places
        self.shape = (table, kind, columns, nulls, defaults, mark, resets)
        self._width = width
        self._origin_at = origin_at

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        table, kind, columns, nulls, defaults, mark, resets = self.shape
        row = tuple([values[at] for values in self.values])
        key = row[: self._width]
        values = row if columns else ()
        origin = self._origin_at(at)
        made = RowOp(table, kind, key, columns, values, nulls, defaults, origin, mark, resets)
        made.place = self.places[at]
        return made

    def keys(self) -> list[tuple[Any, ...]]:
        """Return the primary key of each row."""
        return list(zip(*self.values[: self._width]))


class Rows(Sequence[RowOp]):
    """The row operations of a batch: ``blocks``, and others one by one, each with its place."""

    def __init__(self, blocks: Sequence[Block], singles: Sequence[tuple[int, RowOp]]) -> None:
        self.blocks = blocks
        self.singles = singles
        self._flat: list[RowOp] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.blocks)) + len(self.singles)

    def __getitem__(self, at: Any) -> Any:
        return self.flat()[at]

    def flat(self) -> list[RowOp]:
        """Return them one by one, in the order of their places."""
        if self._flat is None:
            placed = [pair for block in self.blocks for pair in zip(block.places, block)]
            placed += self.singles
            placed.sort(key=lambda pair: pair[0])
            self._flat = [row for _, row in placed]
        return self._flat

    def tables(self) -> set[str]:
        """Return the names of the tables that are written."""
        return {block.shape[0] for block in self.blocks} | {row.table for _, row in self.singles}

    def wave(self) -> list[Group] | None:
        """Return groups if no row is touched twice; None: their order matters."""
        identities: set[Any] = {(row.table, row.key) for _, row in self.singles}
        if any(row.kind == "clear" for _, row in self.singles):
            return None
        keys: dict[str, set[Any]] = {}
        for block in self.blocks:
            keys.setdefault(block.shape[0], set()).update(block.keys())
        if len(identities) + sum(map(len, keys.values())) != len(self):
            return None
        if any(key in keys.get(table, ()) for table, key in identities):
            return None
        return [Group(*block.shape, block) for block in self.blocks] + groups(
            [row for _, row in self.singles]
        )


def by_column(rows: Sequence[RowOp]) -> Sequence[Sequence[Any]]:
    """Return the values of rows of the same columns, a column at a time."""
    return rows.values if isinstance(rows, Block) else list(zip(*[row.values for row in rows]))


def keys_of(rows: Sequence[RowOp]) -> list[tuple[Any, ...]]:
    """Return the primary key of each row."""
    return rows.keys() if isinstance(rows, Block) else [row.key for row in rows]


def tables_of(rows: Sequence[RowOp]) -> set[str]:
    """Return the names of the tables that rows are of."""
    return rows.tables() if isinstance(rows, Rows) else {row.table for row in rows}


def grouped(rows: Sequence[RowOp]) -> list[list[Group]]:
    """Return the groups of each wave of rows, which are written one wave after the other."""
    if isinstance(rows, Rows):
        wave = rows.wave()
        if wave is not None:
            return [wave]
        rows = rows.flat()
    return [groups(wave) for wave in waves(rows)]
