"""Texts, bytes, and what is written as text: documents, UUIDs, labels."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from typing import Any

from tests.integration.hostile.values import Bad, Good, Made
from tests.integration.hostile.values import bad as pick

SPICE = [
    *(
        "'",
        '"',
        "`",
        "\\",
        "%",
        "%s",
        "%(x)s",
        ":",
        ":id",
        "{}",
        "{0}",
        "$1",
        "?",
        ";",
        "--",
        "/*",
        "*/",
        "\n",
        "\r",
    ),
    *(
        "\t",
        "\x1b[31m",
        "\x07",
        "\x7f",
        "\x9b",
        "NULL",
        "{1,2}",
        '","',
        "\\N",
        "\\'",
        "''",
        "😀",
        "👩‍👩‍👧",
        "é",
        "e\u0301",
    ),
    *(
        "\u202e",
        "\u2028",
        "\ufeff",
        "\ufffd",
        "\uffff",
        "\U0010ffff",
        "Ω",
        "ﬁ",
        " ",
        "\\x00",
        "\\u0000",
        "@@",
        "#",
    ),
]
INJECTIONS = [
    "'; DROP TABLE values_; --",
    '"; DELETE FROM gearsync_checkpoint; --',
    "\\'; SHUTDOWN; --",
    "1) ON CONFLICT DO NOTHING; --",
    "${jndi:ldap://x}",
    "%n%n%s%s%x",
    "'||(SELECT version())||'",
    "/*!50000 SELECT SLEEP(9) */",
]
NO_TEXTS = [
    *(
        b"\xff",
        b"a\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
    ),
    *(b"ok\x80", b"\xfe\xff\x00a", b"\xed\xa0\xbd\xed\xb8\x80", b"caf\xe9", b"\x00\xff"),
]


def string(dice: random.Random, most: int) -> str:
    """A text of at most that many characters."""
    length = dice.randrange(most + 1)
    pieces = [
        dice.choice(SPICE) if dice.random() < 0.5 else chr(dice.randrange(32, 127)) for _ in range(length)
    ]
    return "".join(pieces)[:length]


def with_nul(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + "\0" + text[at:]


def text(most: int) -> tuple[Made, Made]:
    def good(dice: random.Random, database: str) -> Good:
        held = string(dice, most)
        if database != "postgres" and dice.random() < 0.1 and len(held) < most:
            held = with_nul(dice, held)
        if dice.random() < 0.1:
            held = ("😀" * most)[:most]
        if dice.random() < 0.1:
            held = dice.choice(INJECTIONS)[:most]
        return Good(held.encode(), held)

    def bad(dice: random.Random, database: str) -> Bad:
        long = [
            (("x" * most) + "y").encode(),
            ("😀" * (most + 1)).encode(),
            b" " * (most + 1),
            b"'" * (most + 1),
        ]
        found: dict[str, Sequence[bytes]] = {"UTF-8": NO_TEXTS}
        if most < 1000:
            found["characters"] = long
        if database == "postgres":
            found["NUL"] = [b"\0", b"a\0b", b"\0" * 3]
        return pick(dice, found)

    return good, bad


def binary(dice: random.Random, database: str) -> Good:
    data = bytes(dice.randrange(256) for _ in range(dice.randrange(60)))
    data = dice.choice([data, b"", b"\0", b"\\x41", b"'\\\0\x1a\"", *NO_TEXTS])
    return Good(data, data)


def document(dice: random.Random, database: str) -> Good:
    leaf: Any = dice.choice([None, True, 0, -1.5, 10**9, string(dice, 12).replace("\\u0000", ""), [], {}])
    held = dice.choice([leaf, [leaf, leaf], {"a": leaf, string(dice, 5): [1]}, {"k" * 40: {"x": leaf}}])
    if dice.random() < 0.1:
        held = json.loads("[" * 30 + "]" * 30)
    data = json.dumps(held, ensure_ascii=dice.random() < 0.5)
    if "\\u0000" in data:
        return Good(b"[]", [])
    return Good(data.encode(), held)


def bad_document(dice: random.Random, database: str) -> Bad:
    texts = [
        b"",
        b"{",
        b"nul",
        b"NaN",
        b"[1,]",
        b"{'a': 1}",
        b'{"a": 1} x',
        b'"\n"',
        b"[Infinity]",
        b"01",
        b"\xef\xbb\xbf1",
    ]
    deep = [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000]
    found = {
        "JSON": [*texts, b"[1", b"undefined", b"+1", b".5", b'"\\x"', b"[" * 200],
        "deep|JSON": deep,
        "UTF-8": NO_TEXTS,
    }
    if database == "postgres":
        found["NUL"] = [b'"\\u0000"', b'{"a\\u0000": 1}']
    return pick(dice, found)


def bad_binary_document(dice: random.Random, database: str) -> Bad:
    if dice.random() < 0.2:
        return Bad(
            dice.choice([b'"\\ud800"', b'"\\udc00x"', b'{"\\ud800\\ud800": 1}']),
            ("surrogate", "Unicode", "json"),
        )
    return bad_document(dice, database)


def unique_id(dice: random.Random, database: str) -> Good:
    # MariaDB takes those of a known version only.
    held = uuid.UUID(int=dice.getrandbits(128), version=4)
    return Good(dice.choice([str(held), str(held).upper(), held.hex]).encode(), held)


def bad_unique_id(dice: random.Random, database: str) -> Bad:
    whole = str(uuid.UUID(int=dice.getrandbits(128)))
    texts = [
        whole[:-1],
        whole + "0",
        "{" + whole + "}",
        "urn:uuid:" + whole,
        whole.replace("-", " "),
        "g" + whole[1:],
    ]
    texts += ["", "null", whole + "\n", whole + "\0", whole[:8] + whole[9:]]
    return pick(dice, {"UUID": [each.encode() for each in texts] + [b"\xff" * 16]})


LABELS = ["sad", "o'k", 'sa"id', "größe", "back\\slash", "per%cent", "a b"]


def label(dice: random.Random, database: str) -> Good:
    held = dice.choice(LABELS)
    return Good(held.encode(), held)


def bad_label(dice: random.Random, database: str) -> Bad:
    return pick(
        dice,
        {
            "enumeration": [
                b"",
                b"SAD",
                b"sad ",
                b" sad",
                b"1",
                b"0",
                "gro\u0308ße".encode(),
                b"\xff",
                b"sad\0",
            ]
        },
    )


def address(dice: random.Random, database: str) -> Good:
    held = ".".join(str(dice.randrange(256)) for _ in range(4))
    return Good(held.encode(), held)


def bad_address(dice: random.Random, database: str) -> Bad:
    texts = [
        b"256.1.1.1",
        b"localhost",
        b"1.2.3.4'",
        b"::g",
        b"1.2.3.4/33",
        b"x" * 3000,
        b"{1.2.3.4}",
        b"NULL",
        b"\x1b[31m",
    ]
    return pick(
        dice, {"invalid input syntax": texts, "empty": [b""], "NUL": [b"1.2.3.4\0"], "UTF-8": [b"\xff"]}
    )


def array(dice: random.Random, database: str) -> Good:
    held = [dice.randrange(-9, 99) for _ in range(dice.randrange(4))]
    return Good(("{" + ", ".join(map(str, held)) + "}").encode(), held)


def bad_array(dice: random.Random, database: str) -> Bad:
    texts = [b"{1,x}", b"{1", b"1,2", b"{{1},{2,3}}", b"{99999999999}", b'{"}', b"[1]", b"{1}}"]
    return pick(dice, {"malformed array|invalid input|out of range": texts, "empty": [b""]})
