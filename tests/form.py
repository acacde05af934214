"""The short form of the tests, which runs everywhere; the long one: ``make soak-tests`` (GEARSYNC_SOAK=1)."""

from __future__ import annotations

import os
import zlib

import pytest

SOAK = os.environ.get("GEARSYNC_SOAK") == "1"
DATABASES = ("postgres", "mariadb", "sqlite")


def left_to_the_long_form(item: pytest.Item) -> bool:
    """Say whether a test is of those that run on one database in the short form, and this is another one.

    Which one depends on the test's name and its other parameters, so that each database has its share.
    """
    if SOAK or item.get_closest_marker("one_database") is None:
        return False
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    database = parameters.pop("database_url", None)
    if database is None:
        return False
    name = getattr(item, "originalname", item.name)
    its_own = DATABASES[zlib.crc32(f"{name}{sorted(parameters.items())}".encode()) % len(DATABASES)]
    return its_own != str(database)
