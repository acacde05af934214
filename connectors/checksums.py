"""Checksums of many rows at once, made by the database and here in the same way.

Equal checksums mean equal rows. Unequal ones may mean that values are written otherwise (``007`` and ``7``):
then the rows themselves tell. The texts of a row's columns stand side by side: those of numbers, dates and
the like each with a comma behind, all others with their size before, so that no two rows read alike.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence, Tuple

from connectors.tables import Column
from connectors.values import texts

Fold = Callable[[bytes], bytes]
Images = Sequence[Sequence[Optional[bytes]]]
Keys = Sequence[Tuple[Any, ...]]
Digest = Callable[[bytes], str]

_TRUTH = {b"1": b"true", b"t": b"true", b"yes": b"true", b"0": b"false", b"f": b"false", b"no": b"false"}


class Form(NamedTuple):
    """How a column stands in a checksum. ``expression``: its text in SQL, with ``{}`` for the column.
    ``sized``: its size stands before. ``fold``: makes the usual bytes of a field what the database writes.
    """

    expression: str
    sized: bool
    fold: Fold | None = None


def md5(text: bytes) -> str:
    """Return what PostgreSQL's function of that name does."""
    return hashlib.md5(text).hexdigest()  # noqa: S324 (it guards no secret)


def sha256(text: bytes) -> str:
    """Return what MySQL's ``SHA2(…, 256)`` does: from 9.6 on, it has no MD5."""
    return hashlib.sha256(text).hexdigest()


class Checksums:
    """The checksums of some columns of one table; a dialect adds ``remote``, by its ``digest``."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = list(forms)

    def local(self, keys: Keys, images: Images) -> str | None:
        """Return the checksum of rows with these values (None: NULL); None: they have none."""
        made = texts_of(self.forms, self.arranged(keys, images))
        if made is None:
            return None
        text = b"".join(itertools.chain.from_iterable(made))
        return self.digest(text)

    def digest(self, text: bytes) -> str:
        """Return what the database's function makes of a text."""
        return md5(text)

    def arranged(self, keys: Keys, images: Images) -> Images:
        """Return ``images`` in the order in which the database takes the rows of ``keys``."""
        return images

    def remote(self, keys: Keys) -> str:
        """Return the checksum of the rows of ``keys``. Raises Unavailable, SchemaMismatch or Refused."""
        raise NotImplementedError


def texts_of(forms: Sequence[Form], images: Images) -> Iterable[tuple[bytes, ...]] | None:
    """Return of each row what goes into a checksum, in pieces; None: it would read like that of others."""
    pieces: list[Iterable[bytes]] = []
    for form, values in zip(forms, zip(*images)):
        made = values if form.fold is None else list(map(_folded(form.fold), values))
        if form.sized:
            sizes = [b"" if value is None else b"%d" % len(value) for value in made]
            pieces += [sizes, itertools.repeat(b":"), [value or b"" for value in made]]
            continue
        plain = [value or b"" for value in made]
        if b"" in made or b"," in b"".join(plain):
            # No number, and it would read like NULL, or like two.
            return None
        pieces += [plain, itertools.repeat(b",")]
    return zip(*pieces)


def _folded(fold: Fold) -> Callable[[bytes | None], bytes | None]:
    return lambda value: None if value is None else fold(value)


# -- The bytes of a field as databases write them -----------------------------------------------------------


def padded(scale: int) -> Fold:
    """Give a number all the digits behind the point that its column has."""

    def fold(value: bytes) -> bytes:
        point = value.find(b".")
        if point < 0:
            return value + b"." + b"0" * scale if scale else value
        return value.ljust(point + 1 + scale, b"0")

    return fold


def truth(value: bytes) -> bytes:
    """Write a truth value out, as PostgreSQL does."""
    return _TRUTH.get(value, value)


def moment(value: bytes) -> bytes:
    """Write a timestamp of ISO 8601 in UTC with a blank in its middle, and without a zone."""
    if value.endswith(b"Z"):
        value = value[:-1]
    elif value.endswith(b"+00:00"):
        value = value[:-6]
    return value[:10] + b" " + value[11:] if value[10:11] == b"T" else value


def hexadecimal(value: bytes) -> bytes:
    """Write bytes as PostgreSQL does."""
    return b"\\x" + value.hex().encode()


def form_of(column: Column, kind: str, numbers: Iterable[str]) -> Form:
    """Return the form of a column of the type ``kind``, without its limits. ``numbers``: types whose texts
    hold no comma.
    """
    select = column.text.select
    if kind in ("numeric", "decimal"):
        return Form(select, False, padded(_scale(column.type_text)))
    if column.text.encode in (texts.timestamp, texts.utc):
        return Form(select, False, moment)
    if column.text.encode is texts.truth:
        return Form(select, False, truth)
    return Form(select, kind not in numbers)


def _scale(type_text: str) -> int:
    """Return the digits behind the point of ``numeric(10,2)``."""
    limits = type_text.partition("(")[2].partition(")")[0]
    scale = limits.partition(",")[2].strip()
    return int(scale) if scale.isdigit() else 0
