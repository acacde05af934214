"""What goes into a database and what comes back: row operations, positions, claims, refusals."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence


class Position(NamedTuple):
    """How far a stream is applied: the epoch of a change, then the two parts of its stream id."""

    epoch: int
    ms: int
    seq: int


class Claim(NamedTuple):
    """The right of one worker to move one stream's checkpoint, and the position that the claim found.

    ``is_doubled``: another life of the shard has claimed it in the same epoch (``bookkeeping/lives.py``).
    """

    stream: str
    epoch: int
    owner: str
    generation: int
    position: Position
    is_doubled: bool = False


class Moves(NamedTuple):
    """Tokens of the keys that change their shard with a batch: ``given`` up by this one, ``taken`` over."""

    given: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


class RowOp:
    """One operation on one row, its values already converted by the columns.

    ``kind`` is ``upsert``, ``delete`` (by ``key``), ``mark``, ``replace`` or ``clear`` (all rows of the
    table). ``key``: the values of the primary key, in the table's order. For an upsert, ``columns`` are
    all columns written, the primary key first, and ``values`` theirs; when the row exists already,
    ``nulls`` become NULL (the column's default where it is NOT NULL and has one), and ``defaults`` the
    column's default. ``origin`` is the caller's own. ``place``: where the state that it brings stands among
    those of its batch; what stands for states of one row is in their order, should the database refuse some.

    ``mark`` names the column in which a row is marked as deleted. A row operation of that kind writes the one
    value there if the row exists and is not marked. Of an upsert, ``resets`` become the column's default
    where the row exists and is marked.

    ``replace``: the rows that begin with ``key``, values of the first ``columns``, become ``members``, each a
    value for each of them.
    """

    __slots__ = (
        "columns",
        "defaults",
        "key",
        "kind",
        "mark",
        "members",
        "nulls",
        "origin",
        "place",
        "resets",
        "table",
        "values",
    )

    def __init__(
        self,
        table: str,
        kind: str,
        key: tuple[Any, ...] = (),
        columns: tuple[str, ...] = (),
        values: tuple[Any, ...] = (),
        nulls: tuple[str, ...] = (),
        defaults: tuple[str, ...] = (),
        origin: object = None,
        mark: str = "",
        resets: tuple[str, ...] = (),
        members: tuple[tuple[Any, ...], ...] = (),
    ) -> None:
        self.table = table
        self.kind = kind
        self.key = key
        self.columns = columns
        self.values = values
        self.nulls = nulls
        self.defaults = defaults
        self.origin = origin
        self.mark = mark
        self.resets = resets
        self.members = members
        self.place = 0

    def __repr__(self) -> str:
        return f"RowOp({self.table!r}, {self.kind!r}, {self.key!r}, {self.columns!r})"


class Refusal(NamedTuple):
    """A row that the database refuses for good: why, and its column when the database tells (else "")."""

    row: RowOp
    reason: str
    column: str


class Applied(NamedTuple):
    """The outcome of one batch: how many row operations are in, and how many refusals were handed out."""

    rows: int
    refused: int


class Group(NamedTuple):
    """Operations of one kind on one table with the same columns: what one bulk statement can do."""

    table: str
    kind: str
    columns: tuple[str, ...]
    nulls: tuple[str, ...]
    defaults: tuple[str, ...]
    mark: str
    resets: tuple[str, ...]
    rows: Sequence[RowOp]


def waves(rows: Sequence[RowOp]) -> list[list[RowOp]]:
    """Split rows so that no wave touches a row twice and the waves, in order, keep each row's order.

    A clear is a wave of its own.
    """
    identities = {(row.table, row.key) for row in rows}
    if len(identities) == len(rows) and not any(row.kind == "clear" for row in rows):
        return [list(rows)]
    result: list[list[RowOp]] = []
    floor = 0
    last: dict[tuple[str, tuple[Any, ...]], int] = {}
    for row in rows:
        if row.kind == "clear":
            result.append([row])
            floor = len(result)
            continue
        identity = (row.table, row.key)
        wave = max(last.get(identity, -1) + 1, floor)
        if wave == len(result):
            result.append([])
        result[wave].append(row)
        last[identity] = wave
    return result


def groups(rows: Sequence[RowOp]) -> list[Group]:
    """Group the rows of one wave, in the order in which each group first appears."""
    found: list[Group] = []
    of_shape: dict[Any, list[RowOp]] = {}
    for row in rows:
        shape = (row.table, row.kind, row.columns, row.nulls, row.defaults, row.mark, row.resets)
        same = of_shape.get(shape)
        if same is None:
            same = of_shape[shape] = []
            found.append(Group(*shape, same))
        same.append(row)
    return found
