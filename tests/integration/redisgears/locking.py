"""A database that keeps others waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    """Let nobody else read or write the table persons of a PostgreSQL database."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("LOCK TABLE persons IN ACCESS EXCLUSIVE MODE"))
            yield
    finally:
        engine.dispose()
