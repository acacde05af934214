"""Whole hostile hashes: their keys, their fields, the tables they go to, and what must become of each."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.integration.hostile.kinds import KINDS
from tests.integration.hostile.texts import SPICE, string
from tests.integration.hostile.values import Bad, Good

#: What the names of fields, columns and tables are spiced with. No database forbids these.
NASTY = [
    *(
        "'",
        '"',
        "%",
        "%s",
        "%(x)s",
        "%%",
        ":",
        ":x",
        "{y}",
        "{0}",
        "select",
        "order",
        "--",
        ";",
        "/*",
        "\\",
        "ä",
        "€",
    ),
    *(
        ",",
        ".",
        "(",
        ")",
        "[",
        "]",
        "@",
        "#",
        "$1",
        "?",
        "=",
        "&",
        "*",
        "!",
        "a  b",
        "'; DROP TABLE x; --",
        "U&'",
        "`",
    ),
    *('")', "\\'", "%n", "{", "}", "~", "<b>", "\t", "\\x41", "null", "DEFAULT", "VALUES", "user"),
]
TYPED_TABLE = 'order "by" `it\'s` %s :x {y}; --'
TYPED_PREFIX = 'hash "%s" {x}:'
TYPED_ID = 'i\'d "%s" select'


MEBIBYTE = 1 << 20
SPICED = [piece.encode() for piece in SPICE]


class Letter(NamedTuple):
    """What must be a dead letter: the column it names, and words of which its reason must have one."""

    column: str
    words: tuple[str, ...]


class Case(NamedTuple):
    """One key: ``commands`` write it, its last image is ``image``.

    ``row`` is what the table holds at the end: column → value, None: no row. ``letter`` is None when nothing
    is refused. ``mend`` are the fields that make all of it fit, and ``mended`` is the row then; None: nothing
    can, or nothing needs to.
    """

    table: str
    key: bytes
    identity: Any
    commands: list[tuple[Any, ...]]
    image: dict[bytes, bytes]
    row: dict[str, Any] | None
    letter: Letter | None = None
    mend: dict[bytes, bytes] | None = None
    mended: dict[str, Any] | None = None


class Names:
    """The columns of the typed table in one database: kind → column, and kind → hash field."""

    def __init__(self, database: str, seed: int) -> None:
        self.kinds = [kind for kind, each in KINDS.items() if database in each.declared]
        dice = random.Random(seed)
        columns = dice.sample(NASTY, len(self.kinds))
        fields = dice.sample(
            [*NASTY, "\n", "\r\n", "\x1b]0;x\x07", "😀", "\u202e", "\x7f\x9b"], len(self.kinds)
        )
        self.columns = {kind: f"{spice} {kind}"[:40].strip() for kind, spice in zip(self.kinds, columns)}
        self.fields = {kind: f"{spice}{kind}" for kind, spice in zip(self.kinds, fields)}
        # The words themselves, and the empty name.
        self.columns["bigint"], self.columns["varchar"], self.columns["text"] = "select", "user", "order"
        self.fields["bigint"], self.fields["varchar"], self.fields["text"] = "", "*", "%"


def readable(value: bytes) -> Any:
    """A value as a dead letter shows it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


class Maker:
    """Makes the cases of one database."""

    def __init__(self, database: str, seed: int) -> None:
        self.database = database
        self.dice = random.Random(f"{database} {seed}")
        self.names = Names(database, seed)
        self._numbers = iter(range(1, 1 << 40))

    def cases(self, count: int) -> Iterator[Case]:
        """Yield ``count`` cases; each has a key of its own, and a number in it that no other has."""
        makers = [self.typed, self.typed, self.typed, self.text_key, self.binary_key, self.pair, self.whole]
        for at in range(count):
            yield (self.large if at % 250 == 249 else self.dice.choice(makers))()

    def typed(self) -> Case:
        """A few fields of the table with a column of each kind; in half of the cases one does not fit."""
        number = next(self._numbers)
        chosen = self.dice.sample(self.names.kinds, self.dice.randrange(1, 6))
        made = {kind: self._good(kind) for kind in chosen}
        key = (TYPED_PREFIX + str(number)).encode()
        mend = {self._field(kind): value.data for kind, value in made.items()}
        mended = {self.names.columns[kind]: value.held for kind, value in made.items()}
        letter = None
        image = dict(mend)
        if self.dice.random() < 0.5:
            kind = self.dice.choice(chosen)
            wrong = KINDS[kind].bad(self.dice, self.database)
            if isinstance(wrong, Bad):
                image[self._field(kind)] = wrong.data
                letter = Letter(self.names.columns[kind], wrong.words)
            else:
                mended[self.names.columns[kind]] = wrong.held
                image[self._field(kind)] = mend[self._field(kind)] = wrong.data
        return self._with_history(TYPED_TABLE, key, number, image, letter, mend, mended)

    def _good(self, kind: str) -> Good:
        found = KINDS[kind].good(self.dice, self.database)
        assert isinstance(found, Good)
        return found

    def _field(self, kind: str) -> bytes:
        return self.names.fields[kind].encode()

    def _with_history(
        self,
        table: str,
        key: bytes,
        identity: Any,
        image: dict[bytes, bytes],
        letter: Letter | None,
        mend: dict[bytes, bytes],
        mended: dict[str, Any],
    ) -> Case:
        write = ("HSET", key, *(part for pair in image.items() for part in pair))
        row = None if letter else mended
        before = ("HSET", key, *(part for pair in mend.items() for part in pair))
        history = self.dice.randrange(10)
        commands: list[tuple[Any, ...]] = [write]
        if history == 0:
            # Another type, and a hash again.
            commands = [before, ("SET", key, "no hash\0"), ("DEL", key), write]
        elif history == 1:
            commands = [("RPUSH", key, "a"), ("DEL", key), write]
        elif history == 2:
            # The last state that fits is what arrives.
            commands, row = [before, write], mended
        elif history == 3 and not letter:
            commands, row = [write, ("SET", key, "\x1b[31m")], None
        return Case(table, key, identity, commands, image, row, letter, mend, mended)

    def _spice(self, most: int) -> bytes:
        dice = self.dice
        pieces = [dice.choice(SPICED) if dice.random() < 0.5 else dice.randbytes(1) for _ in range(most)]
        return b"".join(pieces[: dice.randrange(1, most)])

    def text_key(self) -> Case:
        """A key that becomes a text of at most 60 characters, colons and all."""
        number = next(self._numbers)
        part = self._spice(12) if self.dice.random() < 0.6 else string(self.dice, 12).encode() + b":x::"
        if self.dice.random() < 0.1:
            part += b"x" * 61
        part += b"%d" % number
        letter, mended = None, None
        identity: Any = None
        try:
            identity = part.decode()
        except UnicodeDecodeError:
            letter = Letter("k", ("UTF-8",))
        else:
            if len(identity) > 60:
                # Mended by a wider column.
                letter, mended = Letter("k", ("characters",)), {"v": number}
            if self.database == "postgres" and "\0" in identity:
                letter, mended = Letter("k", ("NUL",) if len(identity) <= 60 else ("characters",)), None
        image = {b"v": b"%d" % number}
        row = {"v": number}
        key = b"text:" + part
        write = ("HSET", key, b"v", image[b"v"])
        return Case("texts", key, identity, [write], image, None if letter else row, letter, None, mended)

    def binary_key(self) -> Case:
        """A key that becomes the bytes it is."""
        number = next(self._numbers)
        part = self._spice(20) + b"%d" % number
        long = self.dice.random() < 0.1 and self.database == "mariadb"
        if long:
            part += b"\0" * 250
        key = b"bytes:" + part
        write = ("HSET", key, b"v", b"%d" % number)
        letter = Letter("k", ("bytes",)) if long else None
        return Case(
            "binaries", key, part, [write], {b"v": b"%d" % number}, None if long else {"v": number}, letter
        )

    def pair(self) -> Case:
        """A key of two parts, which too many colons, or too few, keep from being one."""
        number = next(self._numbers)
        parts = [string(self.dice, 8).replace(":", "").encode() or b"x" for _ in range(2)]
        parts[0] += b"%d" % number
        image = {b"v": b"%d" % number}
        wrong = self.dice.random() < 0.4
        if wrong:
            parts = self.dice.choice(
                [[*parts, b"more"], [b"", *parts], [*parts, b""], parts[:1], [b""], [*parts, *[b""] * 9]]
            )
        key = b"pair:" + b":".join(parts)
        identity = None if wrong else (parts[0].decode(), parts[1].decode())
        return Case(
            "pairs",
            key,
            identity,
            [("HSET", key, b"v", image[b"v"])],
            image,
            None if wrong else {"v": number},
        )

    def whole(self) -> Case:
        """A hash that a transform sees whole, sometimes of 5000 fields, with names of any bytes."""
        number = next(self._numbers)
        count = 5000 if self.dice.random() < 0.03 else self.dice.randrange(1, 9)
        image = {self._spice(6) + b"%d" % at: self._spice(5) for at in range(count)}
        row: dict[str, Any] = {"fields": len(image), "size": sum(map(len, image.values()))}
        letter = None
        if self.dice.random() < 0.2:
            image[b"raise"] = b"\x1b[2Jboo"
            letter = Letter("", ("boo",))
        key = b"whole:%d" % number
        write = ("HSET", key, *(part for pair in image.items() for part in pair))
        return Case("wholes", key, number, [write], image, None if letter else row, letter)

    def large(self) -> Case:
        """Values of a mebibyte."""
        number = next(self._numbers)
        size = MEBIBYTE + self.dice.randrange(9)
        text, data = "😀'\\\n" * (size // 7), self.dice.randbytes(size)
        image = {self._field("text"): text.encode(), self._field("bytes"): data}
        row = {self.names.columns["text"]: text, self.names.columns["bytes"]: data}
        letter = None
        if self.dice.random() < 0.5:
            image[self._field("bigint")] = b"9" * size
            letter = Letter(self.names.columns["bigint"], ("between",))
        mend, mended = None, None
        if letter:
            mend, mended = {self._field("bigint"): b"7"}, {**row, self.names.columns["bigint"]: 7}
        key = (TYPED_PREFIX + str(number)).encode()
        write = ("HSET", key, *(part for pair in image.items() for part in pair))
        return Case(TYPED_TABLE, key, number, [write], image, None if letter else row, letter, mend, mended)
