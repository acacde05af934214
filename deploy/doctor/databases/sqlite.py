"""SQLite: a file, and how it is written."""

from __future__ import annotations

import os

from deploy.doctor.databases import common
from deploy.doctor.databases.common import Asked

_NOT_KEPT = ("off", "memory")
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL"}


def check(asked: Asked) -> None:
    """Look at the file, and at the tables that functions write there."""
    path = str(asked.value("SELECT file FROM pragma_database_list WHERE name = 'main'") or "")
    if path and not (os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK)):
        common.add_read_only(asked, f"Let this user write {path} and its folder, where the journal is.")
    mode = str(asked.value("PRAGMA journal_mode")).lower()
    if mode in _NOT_KEPT:
        asked.place.error(
            "durability",
            f"journal_mode is {mode}.",
            "A crash in a transaction leaves a damaged file.",
            "Put the file where SQLite can use WAL: on a local disk.",
        )
    elif mode != "wal":
        asked.place.note(
            "journal_mode",
            f"journal_mode is {mode}, though gearsync asks for WAL.",
            "Readers and the worker wait for each other.",
            "Put the file on a local disk; network file systems have no WAL.",
        )
    level = int(asked.value("PRAGMA synchronous") or 0)
    if level in _SYNCHRONOUS:
        todo = "Use an SQLite that was built with synchronous FULL as its default."
        common.add_lossy_commit(asked, f"synchronous is {_SYNCHRONOUS[level]}", False, todo)
    for table in asked.tables:
        _check_table(asked, table)


def _check_table(asked: Asked, table: str) -> None:
    others = asked.rows(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? "
        "AND name NOT GLOB 'gearsync_*'",
        table,
    )
    if others:
        common.add_triggers(asked, table, [str(name) for (name,) in others])
