"""A whole gearsync to be hostile to: tables and columns with names that hurt, and functions over them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from deploy.cli import group
from tests.integration.hostile import kinds
from tests.integration.hostile.cases import TYPED_ID, TYPED_PREFIX, TYPED_TABLE, Case, Maker, Names, readable
from tests.integration.hostile.texts import LABELS
from tests.integration.system import System
from tests.servers import run_sql

FUNCTIONS = """
from __future__ import annotations

from connectors import Target
from gears import Change, WriteBehind, deployment_settings

deployment_settings(name="hostile", lanes=2)
target = Target("env:HOSTILE_DB_URL", name="target")


def count(change: Change) -> Change:
    fields = change.fields
    if "raise" in fields:
        raise ValueError(fields["raise"])
    size = sum(len(each.encode() if isinstance(each, str) else each) for each in fields.values())
    change.fields = {"fields": len(fields), "size": size}
    return change


WriteBehind(keys=KEYS, table=TABLE, columns=COLUMNS, target=target)
WriteBehind(keys="text:{k*}", table="texts", columns=["v"], target=target)
WriteBehind(keys="bytes:{k*}", table="binaries", columns=["v"], target=target)
WriteBehind(keys="pair:{a}:{b}", table="pairs", columns=["v"], target=target)
WriteBehind(keys="whole:{id}", table="wholes", columns=["fields", "size"], target=target, transform=count)
"""
BYTES_KEY = {"postgres": "BYTEA", "sqlite": "BLOB", "mariadb": "VARBINARY(250)"}

Rows = dict[str, dict[Any, dict[str, Any]]]
"""Rows by table and key; columns that are NULL are left out."""


class Quoted:
    """Names as a database quotes them, written here once more."""

    def __init__(self, database: str) -> None:
        self.mark = "`" if database == "mariadb" else '"'

    def __call__(self, name: str) -> str:
        return self.mark + name.replace(self.mark, self.mark * 2) + self.mark


def functions_of(names: Names) -> str:
    """The file of functions for the tables of one database."""
    columns = {names.fields[kind]: names.columns[kind] for kind in names.kinds}
    keys = TYPED_PREFIX.replace("{", "{{").replace("}", "}}") + "{" + TYPED_ID + "}"
    source = FUNCTIONS.replace("KEYS", repr(keys)).replace("TABLE", repr(TYPED_TABLE))
    return source.replace("COLUMNS", repr(columns))


def text_key(database: str, length: int) -> str:
    """A type for keys that takes texts which differ for different ones."""
    return f"VARCHAR({length})" + (" COLLATE utf8mb4_bin" if database == "mariadb" else "")


def tables_of(database: str, names: Names) -> Iterator[str]:
    """The statements that create the tables."""
    quoted = Quoted(database)
    labels = ", ".join("'" + each.replace("'", "''") + "'" for each in LABELS)
    if database == "postgres":
        yield f"CREATE TYPE mood AS ENUM ({labels})"
    labels = labels.replace("\\", "\\\\")
    declared = [kinds.KINDS[kind].declared[database].replace("%s", labels) for kind in names.kinds]
    columns = ", ".join(
        f"{quoted(names.columns[kind])} {type_}" for kind, type_ in zip(names.kinds, declared)
    )
    key = text_key(database, 60)
    yield f"CREATE TABLE {quoted(TYPED_TABLE)} ({quoted(TYPED_ID)} BIGINT PRIMARY KEY, {columns})"
    yield f"CREATE TABLE texts (k {key} PRIMARY KEY, v INTEGER)"
    yield f"CREATE TABLE binaries (k {BYTES_KEY[database]} PRIMARY KEY, v INTEGER)"
    yield f"CREATE TABLE pairs (a {key}, b {key}, v INTEGER, PRIMARY KEY (a, b))"
    yield f"CREATE TABLE wholes (id INTEGER PRIMARY KEY, {quoted('fields')} INTEGER, size INTEGER)"


class World:
    """One database and its system; ``maker`` makes the cases."""

    def __init__(self, database: str, url: str, folder: Path, seed: int, host: str) -> None:
        self.database = database
        self.url = url
        self.maker = Maker(database, seed)
        self.quoted = Quoted(database)
        for statement in tables_of(database, self.maker.names):
            run_sql(url, statement)
        self.system = System(folder, functions_of(self.maker.names), {"HOSTILE_DB_URL": url}, host=host)

    def run(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send commands, and wait until what they changed is in SQL or a dead letter."""
        with self.system.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
                if len(pipe) > 100:
                    pipe.execute()
            pipe.execute()
        self.system.wait(90)

    def widen_texts(self) -> None:
        """Give the table of text keys room for all of them, in the way that all databases have."""
        run_sql(self.url, f"CREATE TABLE wider (k {text_key(self.database, 400)} PRIMARY KEY, v INTEGER)")
        run_sql(self.url, "INSERT INTO wider SELECT k, v FROM texts")
        run_sql(self.url, "DROP TABLE texts")
        run_sql(self.url, "ALTER TABLE wider RENAME TO texts")

    def rows(self) -> Rows:
        """All that is in SQL."""
        found: Rows = {TYPED_TABLE: self._typed_rows()}
        for table in ("texts", "binaries"):
            found[table] = {k: {"v": v} for k, v in run_sql(self.url, f"SELECT k, v FROM {table}")}
        found["pairs"] = {(a, b): {"v": v} for a, b, v in run_sql(self.url, "SELECT a, b, v FROM pairs")}
        query = f"SELECT id, {self.quoted('fields')}, size FROM wholes"
        found["wholes"] = {key: {"fields": n, "size": size} for key, n, size in run_sql(self.url, query)}
        return found

    def _typed_rows(self) -> dict[Any, dict[str, Any]]:
        names = self.maker.names
        selected = [kinds.KINDS[kind].select.format(self.quoted(names.columns[kind])) for kind in names.kinds]
        query = f"SELECT {self.quoted(TYPED_ID)}, {', '.join(selected)} FROM {self.quoted(TYPED_TABLE)}"
        found = {}
        for row in run_sql(self.url, query):
            values = {kind: value for kind, value in zip(names.kinds, row[1:]) if value is not None}
            found[row[0]] = {names.columns[kind]: kinds.KINDS[kind].read(values[kind]) for kind in values}
        return found

    def letters(self) -> dict[str, list[dict[str, Any]]]:
        """The dead letters by their key, as the command line prints it."""
        found: dict[str, list[dict[str, Any]]] = {}
        for letter in json.loads(self.cli("deadletters", "list", "--json")):
            found.setdefault(str(letter["key"]), []).append(letter)
        return found

    def cli(self, *arguments: str, code: int = 0) -> str:
        """Run a command of gearsync in this process, which is faster; return all that it prints."""
        with self.system.environment():
            done = CliRunner().invoke(group, [*arguments, "--redis", self.system.server.url])
        assert done.exit_code == code, (done.output, done.exception)
        return str(done.output)

    def pids(self) -> tuple[int, int, int]:
        """The processes that must survive, and how often the worker was started anew."""
        worker = self.system.status()["worker"]
        return self.system.server.pid, worker["pid"], worker["restarts"]


def wrong_rows(expected: Rows, found: Rows) -> Iterator[str]:
    """Say what is not in SQL as it must be."""
    for table in expected.keys() | found.keys():
        here, there = expected.get(table, {}), found.get(table, {})
        yield from (f"{table} {key!r:.80}: no row" for key in here.keys() - there.keys())
        yield from (f"{table} {key!r:.80}: a row" for key in there.keys() - here.keys())
        for key in here.keys() & there.keys():
            for column in here[key].keys() | there[key].keys():
                held, value = here[key].get(column), there[key].get(column)
                if not kinds.same(held, value):
                    yield f"{table} {key!r:.80} column {column}: {value!r:.200}, not {held!r:.200}"


def wrong_letters(cases: Sequence[Case], found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Say what is not a dead letter as it must be."""
    expected = {str(readable(case.key)): case for case in cases if case.letter}
    for name in expected.keys() | found.keys():
        letters, case = found.get(name, []), expected.get(name)
        if len(letters) != (case is not None):
            yield f"{name!r:.80}: {len(letters)} letters; {[each['reason'][:200] for each in letters]}"
        elif case is not None:
            yield from (f"{name!r:.80}: {each}" for each in _wrong_letter(case, letters[0]))


def _wrong_letter(case: Case, letter: dict[str, Any]) -> Iterator[str]:
    assert case.letter is not None
    reason = letter["reason"]
    if (letter["table"], letter["column"]) != (case.table, case.letter.column):
        yield f"column {letter['column']}, not {case.letter.column}; {reason:.200}"
    if len(reason) > 700 or not any(word in reason for word in case.letter.words):
        yield f"reason {reason:.200}, not {case.letter.words}"
    # A byte of a name that is no UTF-8 is half of a surrogate pair in JSON.
    image = {name.decode("utf-8", "surrogateescape"): readable(value) for name, value in case.image.items()}
    if letter["image"] != image:
        yield "the image is another"
