"""What a write will do to a hash, told before it runs (in the module: gears/module/through/effects.c).

What a command refuses, and what changes no field, is no effect: the command itself then says so.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from gears.redisgears.api import as_bytes, execute
from gears.redisgears.commands import DELETING

SETS, REMOVES, DELETES = b"U", b"R", b"D"

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
#: Sign; digits and exponent with 0x, or without.
_FLOAT = re.compile(
    rb"([+-]?)(?:0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP]([+-]?[0-9]+))?"
    rb"|([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?)"
)
_INT64 = 1 << 63
_DIGITS = 17
#: The bits that a C long double has for its number.
_MANTISSA = 113 if platform.machine() in ("aarch64", "arm64") else 64
_MOST = Fraction(2) ** 16384
"""The least that a long double is too small for."""
_NOTHING = Fraction(1, 2) ** (16382 + _MANTISSA)
"""The most that it takes for 0."""
_FLOAT_BYTES = 5119
"""The longest text that the server takes for one."""
_AT_ONCE = 4000
"""How many digits all versions of Python read and write at once: not the 4,933 of a long double."""
_EXPONENT = 100_000
"""An exponent that makes any such text too much or nothing."""


class Effect(NamedTuple):
    """``changes`` are the fields that are set, or removed (None); ``words`` are the command that brings Redis
    there whatever came in between.
    """

    op: bytes
    changes: dict[bytes, bytes | None]
    words: list[bytes]


def deletes(words: Sequence[Any]) -> bool:
    """Whether a command deletes keys, whatever they hold."""
    return str(words[0]).lower() in DELETING


def keys_of(words: Sequence[bytes]) -> list[bytes]:
    """Return the keys that a command writes, each once."""
    return list(dict.fromkeys(words[1:] if deletes([words[0].decode("latin-1")]) else words[1:2]))


def effect_of(words: Sequence[bytes]) -> Effect | None:
    """Return what a command will do to the hash as it is now. Redis is locked."""
    name = words[0].decode("latin-1").lower()
    if name in DELETING:
        # Also of keys that are not there: their rows may be.
        return _deletes(words[1:]) if len(words) > 1 else None
    if len(words) < 3 or execute("TYPE", words[1]) not in ("none", "hash"):
        return None
    found: Effect | None = _EFFECTS[name](words)
    return found


def _deletes(keys: Sequence[bytes]) -> Effect:
    return Effect(DELETES, {}, [b"DEL", *keys])


def _sets(key: bytes, changes: dict[bytes, bytes | None]) -> Effect:
    return Effect(SETS, changes, [b"HSET", key, *(part or b"" for pair in changes.items() for part in pair)])


def _present(key: bytes, field: bytes) -> bytes | None:
    value = execute("HGET", key, field)
    return None if value is None else as_bytes(value)


def _set(words: Sequence[bytes]) -> Effect | None:
    if len(words) < 4 or len(words) % 2:
        return None
    return _sets(words[1], dict(zip(words[2::2], words[3::2])))


def _set_new(words: Sequence[bytes]) -> Effect | None:
    if len(words) != 4 or _present(words[1], words[2]) is not None:
        return None
    return _set(words)


def _add_integer(words: Sequence[bytes]) -> Effect | None:
    if len(words) != 4:
        return None
    present, more = _integer(_present(words[1], words[2]) or b"0"), _integer(words[3])
    if present is None or more is None or not -_INT64 <= present + more < _INT64:
        return None
    return _sets(words[1], {words[2]: b"%d" % (present + more)})


def _add_float(words: Sequence[bytes]) -> Effect | None:
    if len(words) != 4:
        return None
    present, more = _float(_present(words[1], words[2]) or b"0"), _float(words[3])
    if present is None or more is None:
        return None
    added = _rounded(present + more)
    return _sets(words[1], {words[2]: _as_text(added)}) if abs(added) < _MOST else None


def _remove(words: Sequence[bytes]) -> Effect | None:
    fields = list(dict.fromkeys(words[2:]))
    there = [field for field, value in zip(fields, execute("HMGET", words[1], *fields)) if value is not None]
    if not there:
        return None
    if len(there) == execute("HLEN", words[1]):
        return _deletes(words[1:2])
    return Effect(REMOVES, dict.fromkeys(there), [b"HDEL", words[1], *there])


def _expire(unit: int, is_moment: bool) -> Callable[[Sequence[bytes]], Effect | None]:
    """A time that has passed deletes the key; any other changes no field. ``unit``: in ms."""

    def effect(words: Sequence[bytes]) -> Effect | None:
        wanted = _integer(words[2])
        if wanted is None or not execute("EXISTS", words[1]):
            return None
        left = wanted * unit - (int(time.time() * 1000) if is_moment else 0)
        # The server refuses what are too many milliseconds.
        if left > 0 or wanted * unit < -_INT64 or not _hold(words[1], {word.lower() for word in words[3:]}):
            return None
        return _deletes(words[1:2])

    return effect


def _hold(key: bytes, conditions: set[bytes]) -> bool:
    """Whether all conditions hold, and the server takes them: NX alone, and before 7.0 none."""
    expires = execute("PTTL", key) >= 0
    # What has passed is before any end, and never after one.
    holds = {b"nx": not expires, b"xx": expires, b"lt": True}
    if not all(holds.get(each, False) for each in conditions) or conditions > {b"nx"}:
        return False
    return not conditions or "redis_version:6." not in execute("INFO", "server")


_EFFECTS: dict[str, Callable[[Sequence[bytes]], Any]] = {
    "hset": _set,
    "hmset": _set,
    "hsetnx": _set_new,
    "hincrby": _add_integer,
    "hincrbyfloat": _add_float,
    "hdel": _remove,
    "expire": _expire(1000, False),
    "pexpire": _expire(1, False),
    "expireat": _expire(1000, True),
    "pexpireat": _expire(1, True),
}


# -- Numbers, as the server's C has them -------------------------------------------------------------------


def _integer(text: bytes) -> int | None:
    if _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if -_INT64 <= number < _INT64 else None


def _float(text: bytes) -> Fraction | None:
    """Return what strtold makes of a text; None: the server refuses it."""
    found = _FLOAT.fullmatch(text) if len(text) <= _FLOAT_BYTES else None
    if found is None:
        return None
    sign, hexadecimal, twos, decimal, tens = found.groups()
    whole, _, rest = (hexadecimal or decimal).partition(b".")
    digits = int(whole + rest, 16) if hexadecimal else _number(whole + rest)
    power = twos or tens or b"0"
    exponent = _number(power.lstrip(b"+-")) * (-1 if power.startswith(b"-") else 1)
    if not digits:
        return Fraction(0)
    if abs(exponent) > _EXPONENT:
        return None
    base, places = (2, 4 * len(rest)) if hexadecimal else (10, len(rest))
    number = _rounded(digits * Fraction(base) ** (exponent - places))
    if not _NOTHING < number < _MOST:
        return None
    return -number if sign == b"-" else number


def _number(text: bytes) -> int:
    """Return a whole number, also one of more digits than Python reads at once."""
    scale: int = 10**_AT_ONCE
    return int(text[:-_AT_ONCE] or b"0") * scale + int(text[-_AT_ONCE:])


def _rounded(number: Fraction) -> Fraction:
    """Return the nearest long double."""
    if not number:
        return number
    size = abs(number)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - _MANTISSA + 1)
    return round(number / unit) * unit


def _as_text(number: Fraction) -> bytes:
    """Return it as HINCRBYFLOAT writes it: 17 digits, without the zeros at the end."""
    scaled = round(number * 10**_DIGITS)
    whole, rest = divmod(abs(scaled), 10**_DIGITS)
    digits = f"{rest:0{_DIGITS}d}".rstrip("0")
    more, last = divmod(whole, 10**_AT_ONCE)
    text = f"{more}{last:0{_AT_ONCE}d}" if more else f"{last}"
    text += f".{digits}" if digits else ""
    return (f"-{text}" if scaled < 0 else text).encode()


# -- The command in a record -------------------------------------------------------------------------------


def to_record(words: Sequence[bytes]) -> bytes:
    """Return a command as the records in SQL have it: the database, and the words of the protocol."""
    return b"0 *%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in words)


def from_record(text: bytes) -> list[bytes]:
    """Return the words of a command in a record."""
    at = text.index(b"*") + 1
    end = text.index(b"\r\n", at)
    count, at = int(text[at:end]), end + 2
    words = []
    for _ in range(count):
        end = text.index(b"\r\n", at)
        length, at = int(text[at + 1 : end]), end + 2
        words.append(text[at : at + length])
        at += length + 2
    return words
