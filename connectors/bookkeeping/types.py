"""Types of columns that several of gearsync's own tables have."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine


def ascii_text(length: int) -> TypeEngine[str]:
    """Return the type of names in ASCII; a case-insensitive collation would make two of them one."""
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(exact, "mysql", "mariadb")
