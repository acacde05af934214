"""The column for the values of a field, on each kind of database, by SQLAlchemy's types."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from deploy.drafts.kinds import Profile

#: Numbers up to here leave room to grow in an INTEGER.
_INTEGER_BELOW = 10**9
#: Decimals with more digits behind the point are taken for floats: nobody writes an amount so.
_MOST_DECIMALS = 8
_MOST_DIGITS = 38
#: How many digits of a number SQLite keeps.
_SQLITE_DIGITS = 15
_VARCHARS = (32, 64, 128, 255)

# Numbers that nobody counts with: a leading zero, as another row may have it, would be lost.
_CODE = re.compile(r"phone|mobile|(^|_)(tel|fax|zip|plz|postcode|postal|iban|isbn|ean|barcode|vat|ssn)", re.I)
_TRUTH = re.compile(
    r"^(is|has|can|was)_|^(active|enabled|disabled|deleted|verified|confirmed|archived)$", re.I
)
_MOMENT = re.compile(r"(_at|_time|_ts|timestamp|created|updated|expires|expiry)$", re.I)


class Proposal(NamedTuple):
    """A column's type, and what is unsure about it; empty: nothing."""

    type: Any
    doubt: str = ""


def column_for(profile: Profile, name: str, backend: str) -> Proposal:
    """Return the type for the values of the field ``name``; ``backend`` as SQLAlchemy calls the database."""
    if not profile.count:
        return Proposal(sa.Text(), "no value was sampled")
    kind = profile.kind()
    if kind in ("integer", "decimal", "float") and _CODE.search(name):
        return Proposal(text_type(profile, backend), "only digits, but by its name no number to count with")
    if kind == "integer" and profile.is_flag and _TRUTH.search(name):
        return Proposal(sa.Boolean(), "0 and 1 seen")
    if kind in ("integer", "decimal"):
        return _number(profile, name, backend)
    if kind == "float":
        return Proposal(_double(backend))
    if kind == "timestamp":
        return _timestamp(profile, backend)
    if kind == "json":
        return Proposal(postgresql.JSONB() if backend == "postgresql" else sa.JSON())
    if kind == "text":
        return Proposal(text_type(profile, backend), _doubt_of_text(profile))
    simple = {"boolean": sa.Boolean(), "date": sa.Date(), "uuid": _uuid(backend)}
    return Proposal(simple[kind]) if kind in simple else Proposal(_binary(profile, backend), "no UTF-8 text")


def key_column_for(profile: Profile, backend: str) -> Proposal:
    """Return the type for a part of keys: whole numbers, UUIDs in lower case, or else a text."""
    # As keys, texts that MySQL's own collation takes for equal would share one row.
    collation = "utf8mb4_bin" if backend == "mysql" else None
    if not profile.count:
        return Proposal(sa.String(255, collation), "no key was sampled")
    kind = profile.kind()
    if kind == "integer" and profile.whole < 19:
        return Proposal(sa.BigInteger())
    if kind == "uuid" and not profile.has_capitals:
        return Proposal(_uuid(backend))
    length = next((each for each in _VARCHARS if each >= 2 * profile.characters), None)
    if length is None:
        return Proposal(sa.String(max(255, profile.characters), collation), "very long for a key")
    return Proposal(sa.String(length, collation))


def text_type(profile: Profile, backend: str) -> Any:
    """Return a type for texts, with room for some that are twice as long as the longest seen."""
    for length in _VARCHARS:
        if length >= 2 * profile.characters:
            return sa.String(length)
    if backend != "mysql" or profile.size < 1 << 14:
        return sa.Text()
    return mysql.MEDIUMTEXT() if profile.size < 1 << 22 else mysql.LONGTEXT()


def _number(profile: Profile, name: str, backend: str) -> Proposal:
    if profile.kind() == "integer" and profile.whole < 19:
        doubt = ""
        if profile.is_flag:
            doubt = "only 0 and 1 seen: BOOLEAN, if it is a truth value"
        elif _MOMENT.search(name) and 10**9 <= profile.highest < 10**13:
            doubt = "by its name seconds or milliseconds since 1970: a TIMESTAMP would take them too"
        if doubt.startswith("by") or max(-profile.lowest, profile.highest) >= _INTEGER_BELOW:
            return Proposal(sa.BigInteger(), doubt)
        return Proposal(sa.Integer(), doubt)
    digits = profile.whole + profile.scale
    if profile.scale > _MOST_DECIMALS and digits <= 30:
        return Proposal(_double(backend), "many digits behind the point: taken for a float")
    if digits > _MOST_DIGITS - 4 or (backend == "sqlite" and profile.digits > _SQLITE_DIGITS):
        return Proposal(text_type(profile, backend), "a number with more digits than a column keeps")
    if backend == "sqlite" and profile.whole > _SQLITE_DIGITS:
        return Proposal(text_type(profile, backend), "a number with more digits than SQLite keeps")
    scale = max(2, profile.scale) if profile.scale else 0
    return Proposal(sa.Numeric(max(12, profile.whole + scale + 4), scale))


def _double(backend: str) -> Any:
    return mysql.DOUBLE() if backend == "mysql" else sa.Double()


def _timestamp(profile: Profile, backend: str) -> Proposal:
    doubt = (
        "some have a zone and others none: those are taken for UTC"
        if 0 < profile.zones < profile.count
        else ""
    )
    if backend == "mysql":
        return Proposal(mysql.DATETIME(fsp=6), doubt or ("in UTC" if profile.zones else ""))
    zone = backend == "postgresql" and profile.zones > 0
    return Proposal(sa.DateTime(timezone=zone), doubt)


def _uuid(backend: str) -> Any:
    return sa.Uuid() if backend == "postgresql" else sa.CHAR(36)


def _binary(profile: Profile, backend: str) -> Any:
    if backend != "mysql" or profile.size < 1 << 14:
        return sa.LargeBinary()
    return mysql.MEDIUMBLOB() if profile.size < 1 << 22 else mysql.LONGBLOB()


def _doubt_of_text(profile: Profile) -> str:
    if not profile.empty:
        return ""
    return f"{profile.empty} of {profile.count} values are empty, which only a text can be"
