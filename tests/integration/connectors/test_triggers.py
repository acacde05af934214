"""The triggers and the outbox on real databases: what is written down, and that nothing is passed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from connectors import Unavailable
from connectors.outbox import Entry, Followed, Followers, Outbox, outbox_of
from connectors.outbox import mysql as mysql_outbox
from connectors.triggers import CURRENT, MISSING, OUTDATED, triggers_of
from tests.integration.connectors.conftest import Database

PERSONS = "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20))"


def follow(database: Database, *tables: str) -> Outbox:
    """Make the triggers of tables, and return the outbox, to be read from here on."""
    triggers = triggers_of(database.connector)
    database.connector.forget_tables()
    triggers.run(triggers.statements([database.connector.table(name) for name in tables]))
    outbox = outbox_of(database.connector)
    assert outbox.begin(outbox.now())
    return outbox


def all_of(outbox: Outbox, most: int = 1000) -> list[Entry]:
    """Read until there is no more."""
    found: list[Entry] = []
    while True:
        part = outbox.read(most)
        found += part
        if len(part) < most:
            return found


def keys(outbox: Outbox) -> list[tuple[bytes, ...] | None]:
    """Return the keys of all that is new, sorted: they come in any order."""
    return sorted((entry.key for entry in all_of(outbox)), key=str)


@contextlib.contextmanager
def session(database: Database) -> Iterator[sa.Connection]:
    """A session of somebody else, whose transaction is committed at the end of the block."""
    engine = sa.create_engine(database.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection


@pytest.fixture(params=["postgres", "mariadb", "sqlite"])
def database(request: pytest.FixtureRequest) -> Any:
    """A fresh database of each kind that has triggers."""
    kind = {"mariadb": "mysql"}.get(request.param, request.param)
    return request.getfixturevalue(f"on_{kind}")


def test_each_change_of_a_row_is_written_down(database: Database) -> None:
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    database.sql("INSERT INTO persons VALUES (1, 'Ada'), (2, 'Eve'), (3, 'Joe')")
    assert keys(outbox) == [(b"1",), (b"2",), (b"3",)]
    database.sql("UPDATE persons SET name = 'x' WHERE id < 3")
    assert keys(outbox) == [(b"1",), (b"2",)]
    database.sql("UPDATE persons SET id = 30 WHERE id = 3")
    assert keys(outbox) == [(b"3",), (b"30",)]
    database.sql("DELETE FROM persons WHERE id = 2")
    assert keys(outbox) == [(b"2",)]
    with pytest.raises(ZeroDivisionError), session(database) as somebody:
        somebody.exec_driver_sql("INSERT INTO persons VALUES (9, 'nobody')")
        raise ZeroDivisionError
    assert keys(outbox) == []
    database.sql("DELETE FROM persons")
    assert keys(outbox) == [(b"1",), (b"30",)]


def test_truncate_says_all_rows(on_postgres: Database) -> None:
    on_postgres.sql(PERSONS)
    outbox = follow(on_postgres, "persons")
    on_postgres.sql("TRUNCATE persons")
    assert all_of(outbox) == [Entry("persons", None)]


def test_truncate_of_a_partition_says_all_rows(on_postgres: Database) -> None:
    for statement in (
        "CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20)) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF persons FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id)",
        'CREATE TABLE "lows" PARTITION OF low FOR VALUES FROM (0) TO (5)',
    ):
        on_postgres.sql(statement)
    outbox, triggers = follow(on_postgres, "persons"), triggers_of(on_postgres.connector)
    persons = on_postgres.connector.table("persons")
    assert triggers.state(persons) == CURRENT
    on_postgres.sql("INSERT INTO low VALUES (1, 'Ada')")
    assert all_of(outbox) == [Entry("persons", (b"1",))]
    on_postgres.sql('TRUNCATE "lows"')
    assert all_of(outbox) == [Entry("persons", None)]
    on_postgres.sql("CREATE TABLE high PARTITION OF persons FOR VALUES FROM (10) TO (20)")
    assert triggers.state(persons) == OUTDATED
    triggers.run(triggers.statements([persons]))
    assert triggers.state(persons) == CURRENT
    triggers.run(triggers.drops(["persons"]))
    assert triggers.state(persons) == MISSING
    on_postgres.sql("TRUNCATE high")


def test_what_the_connector_writes_itself_makes_no_entry(database: Database) -> None:
    database.sql("CREATE TABLE persons (id INTEGER PRIMARY KEY, name VARCHAR(20) UNIQUE)")
    outbox = follow(database, "persons")
    database.connector.forget_tables()
    database.apply(database.upsert("persons", {"id": b"1", "name": b"Ada"}))
    database.apply(database.upsert("persons", {"id": b"2", "name": b"Ada"}))
    database.apply(database.delete("persons", b"1"))
    assert keys(outbox) == []
    assert len(database.refusals) == 1
    database.sql("INSERT INTO persons VALUES (5, 'Eve')")
    assert keys(outbox) == [(b"5",)]


HOSTILE = "od\"d's `%s` {}; -- ünï\\"
ASCII = 'it\'s "{}" {x} `%s`'
TYPES = {
    "postgresql": ("BYTEA", "UUID", "TIMESTAMP"),
    "mysql": ("VARBINARY(20)", "CHAR(36)", "DATETIME(6)"),
    "sqlite": ("BLOB", "CHAR(36)", "TIMESTAMP"),
}


@pytest.mark.parametrize("table", [HOSTILE, ASCII])
def test_keys_of_all_types_and_hostile_names(database: Database, table: str) -> None:
    quote = "`" if database.backend == "mysql" else '"'

    def quoted(name: str) -> str:
        return quote + name.replace(quote, quote * 2) + quote

    bytes_, uuid, moment = TYPES[database.backend]
    kinds = {"i d": "BIGINT", "t": "VARCHAR(60)", "b": bytes_, "u": uuid, "d": "DATE", "m%": moment}
    kinds["n"] = "NUMERIC(9, 2)"
    columns = ", ".join(f"{quoted(name)} {kind} NOT NULL" for name, kind in kinds.items())
    key = ", ".join(map(quoted, kinds))
    with session(database) as somebody:
        somebody.execution_options(no_parameters=True)
        somebody.exec_driver_sql(f"CREATE TABLE {quoted(table)} ({columns}, PRIMARY KEY ({key}))")
    outbox = follow(database, table)
    text = "a,b:'\" \\ %s ünï \N{GRINNING FACE}\n"
    values = ["-9007199254740993", text, b"\x00\xff,:", "0f0e0d0c-0b0a-0908-0706-050403020100", "2024-02-29"]
    values += ["2024-02-29 23:59:58.123456", "10.50"]
    with session(database) as somebody:
        if database.backend == "postgresql":
            somebody.exec_driver_sql("SET datestyle = 'German'")
            somebody.exec_driver_sql("SET bytea_output = 'escape'")
        mark = "?" if database.backend == "sqlite" else "%s"
        place = quoted(table) if mark == "?" else quoted(table).replace("%", "%%")
        marks = ", ".join(mark for _ in values)
        somebody.exec_driver_sql(f"INSERT INTO {place} VALUES ({marks})", tuple(values))
    number = b"10.5" if database.backend == "sqlite" else b"10.50"
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    assert all_of(outbox) == [Entry(table, (*texts[:-1], number))]


def test_a_timestamp_does_not_depend_on_the_zone_of_the_writer(database: Database) -> None:
    kind = "TIMESTAMP WITH TIME ZONE" if database.backend == "postgresql" else "TIMESTAMP"
    if database.backend == "sqlite":
        pytest.skip("SQLite has texts for times, which are as they are")
    database.sql(f"CREATE TABLE moments (at {kind} PRIMARY KEY)")
    outbox = follow(database, "moments")
    for zone in ("+05:00", "-03:00"):
        with session(database) as somebody:
            if database.backend == "postgresql":
                somebody.exec_driver_sql(f"SET timezone = '{zone.replace('+', '-')}'")
                somebody.exec_driver_sql(f"INSERT INTO moments VALUES ('2024-01-31 10:00:00{zone}')")
            else:
                somebody.exec_driver_sql(f"SET time_zone = '{zone}'")
                somebody.exec_driver_sql("INSERT INTO moments VALUES ('2024-01-31 10:00:00')")
    convert = database.connector.table("moments").columns["at"].convert
    found = [convert(entry.key[0]) for entry in all_of(outbox) if entry.key]
    assert sorted(moment.strftime("%H:%M") for moment in found) == ["05:00", "13:00"]


def test_a_long_read_comes_in_parts_and_can_be_taken_up_at_each(database: Database) -> None:
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    values = ", ".join(f"({number}, 'x')" for number in range(10))
    with session(database) as somebody:
        somebody.exec_driver_sql(f"INSERT INTO persons VALUES {values}")
    database.sql("INSERT INTO persons VALUES (10, 'y'), (11, 'z')")
    found = outbox.read(5)
    assert len(found) == 5
    again = outbox_of(database.connector)
    assert again.begin(outbox.position)
    rest = all_of(again, 5)
    assert {entry.key for entry in rest} | {entry.key for entry in found} == {
        (str(number).encode(),) for number in range(12)
    }
    assert all_of(again) == []


def test_a_transaction_that_began_first_and_commits_last(database: Database) -> None:
    """It has the lower number, and must not be passed; nor do others wait for it."""
    if database.backend == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    with session(database) as slow:
        slow.exec_driver_sql("INSERT INTO persons VALUES (1, 'slow')")
        with session(database) as slower:
            slower.exec_driver_sql("INSERT INTO persons VALUES (2, 'slower')")
            database.sql("INSERT INTO persons VALUES (3, 'fast')")
            assert keys(outbox) == [(b"3",)]
            before = outbox.position
            outbox.prune(outbox.horizon(before), 1000)
        assert keys(outbox) == [(b"2",)]
        database.sql("INSERT INTO persons VALUES (4, 'fast')")
        assert keys(outbox) == [(b"4",)]
    # Who is at that position still needs them.
    outbox.prune(outbox.horizon(before), 1000)
    again = outbox_of(database.connector)
    assert again.begin(before)
    assert (b"1",) in keys(again)
    assert keys(outbox) == [(b"1",)]
    assert keys(outbox) == []


def test_a_gap_is_given_up_only_when_its_transaction_is_over(
    on_mysql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_mysql.sql(PERSONS)
    outbox = follow(on_mysql, "persons")
    monkeypatch.setattr(mysql_outbox, "GRACE_SECONDS", 0.0)
    with session(on_mysql) as slow:
        slow.exec_driver_sql("INSERT INTO persons VALUES (1, 'slow')")
        with pytest.raises(ZeroDivisionError), session(on_mysql) as somebody:
            somebody.exec_driver_sql("INSERT INTO persons VALUES (2, 'rolled back')")
            raise ZeroDivisionError
        on_mysql.sql("INSERT INTO persons VALUES (3, 'fast')")
        assert keys(outbox) == [(b"3",)]
        assert keys(outbox) == []
        assert keys(outbox) == []
        held = outbox.horizon(outbox.position)
    assert keys(outbox) == [(b"1",)]
    assert keys(outbox) == []
    assert keys(outbox) == []
    # What was rolled back never comes: the position goes on behind it.
    assert outbox.horizon(outbox.position) == held + 3


@pytest.mark.parametrize("grace", [0.0, 30.0])
def test_what_appears_in_a_gap_comes_in_parts(
    on_mysql: Database, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    """One transaction may have written millions of rows, while others committed."""
    on_mysql.sql(PERSONS)
    outbox = follow(on_mysql, "persons")
    monkeypatch.setattr(mysql_outbox, "GRACE_SECONDS", grace)
    with session(on_mysql) as slow:
        values = ", ".join(f"({number}, 'slow')" for number in range(100))
        slow.exec_driver_sql(f"INSERT INTO persons VALUES {values}")
        on_mysql.sql("INSERT INTO persons VALUES (1000, 'fast')")
        assert keys(outbox) == [(b"1000",)]
    found: list[Entry] = []
    while part := outbox.read(5):
        assert len(part) <= 3 * 5
        found += part
    assert sorted(int(entry.key[0]) for entry in found if entry.key) == list(range(100))


def test_a_part_of_a_long_transaction_does_not_look_at_all_of_it(
    on_postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a snapshot has seen running, as one does that writes many rows."""
    on_postgres.sql(PERSONS)
    outbox = follow(on_postgres, "persons")
    said: list[Any] = []
    rows = outbox._rows

    def noted(connection: sa.Connection, statement: str, parameters: Any = ()) -> list[Any]:
        said.append((statement, parameters))
        return rows(connection, statement, parameters)

    with session(on_postgres) as slow, session(on_postgres) as other:
        slow.exec_driver_sql("INSERT INTO persons SELECT g, 'slow' FROM generate_series(1, 3000) g")
        other.exec_driver_sql("INSERT INTO persons SELECT g, 'other' FROM generate_series(3001, 3050) g")
        assert keys(outbox) == []
    on_postgres.sql("INSERT INTO persons SELECT g, 'new' FROM generate_series(3051, 6000) g")
    monkeypatch.setattr(outbox, "_rows", noted)
    found = [outbox.read(100) for _ in range(60)]
    assert sorted(int(entry.key[0]) for part in found for entry in part if entry.key) == list(range(1, 6001))
    monkeypatch.undo()
    assert outbox.read(100) == []
    with session(on_postgres) as connection:
        for statement, parameters in said[1::20]:
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            [(plan,)] = connection.exec_driver_sql(explained, tuple(parameters))
            assert seen_by(plan[0]["Plan"]) < 2000, plan


def seen_by(plan: dict[str, Any]) -> float:
    """Return how many rows a plan has had in hand, at all its nodes together."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return float(own * plan["Actual Loops"]) + sum(seen_by(each) for each in plan.get("Plans", ()))


def test_states(database: Database) -> None:
    database.sql("CREATE TABLE persons (id INTEGER NOT NULL, part INTEGER NOT NULL, PRIMARY KEY (id))")
    triggers = triggers_of(database.connector)
    table = database.connector.table("persons")
    assert triggers.state(table) == MISSING
    triggers.run(triggers.statements([table]))
    assert triggers.state(table) == CURRENT
    triggers.run(triggers.statements([table]))
    assert triggers.state(table) == CURRENT
    triggers.run(triggers.drops(["persons"]))
    assert triggers.state(table) == MISSING
    database.sql("DROP TABLE persons")
    database.sql("CREATE TABLE persons (id INTEGER NOT NULL, part INTEGER NOT NULL, PRIMARY KEY (id, part))")
    triggers.run(triggers.statements([table]))
    database.connector.forget_tables()
    assert triggers.state(database.connector.table("persons")) == OUTDATED


def test_the_outbox_goes_with_the_last_table(database: Database) -> None:
    database.sql(PERSONS)
    database.sql(PERSONS.replace("persons", "others"))
    follow(database, "persons", "others")
    triggers = triggers_of(database.connector)
    triggers.run(triggers.drops(["persons"]))
    assert triggers.state(database.connector.table("others")) == CURRENT
    database.sql("INSERT INTO persons VALUES (1, 'x')")
    assert database.sql("SELECT count(*) FROM gearsync_outbox") == [(0,)]
    triggers.run(triggers.drops(["others"]))
    with database.connector.transaction() as connection:
        names = sa.inspect(connection).get_table_names()
    assert not [name for name in names if name.startswith("gearsync_") and "checkpoint" not in name]
    database.sql("INSERT INTO others VALUES (1, 'x')")


def test_followers_prune_what_all_have_passed(database: Database) -> None:
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    followers = Followers(database.connector)
    assert followers.find("one") is None
    start = outbox.now()
    for name in ("one", "two"):
        followers.add(name, Followed(start, outbox.horizon(start), "[]"))
    database.sql("INSERT INTO persons VALUES (1, 'x'), (2, 'y')")
    database.sql("INSERT INTO persons VALUES (3, 'z')")
    all_of(outbox)
    followers.release("one", outbox.position, outbox.horizon(outbox.position))
    assert followers.touch("one")
    lowest = followers.lowest()
    assert lowest is not None
    outbox.prune(lowest, 1000)
    assert database.sql("SELECT count(*) FROM gearsync_outbox") == [(3,)]
    followers.release("two", outbox.position, outbox.horizon(outbox.position))
    lowest = followers.lowest()
    assert lowest is not None
    assert outbox.prune(lowest, 1) == 1
    while outbox.prune(lowest, 1):
        pass
    left = 0 if database.backend == "postgresql" else 1
    assert database.sql("SELECT count(*) FROM gearsync_outbox") == [(left,)]
    # A position never holds back more than it did.
    followers.release("one", start, outbox.horizon(start))
    assert followers.lowest() == lowest


def test_a_follower_that_is_away_for_long_is_let_go(database: Database) -> None:
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    followers = Followers(database.connector)
    followers.add("one", Followed(outbox.now(), 5, "[]"))
    followers.add("two", Followed(outbox.now(), 7, "[]"))
    assert followers.drop_unseen() == []
    database.sql("UPDATE gearsync_follower SET seen_at = seen_at - 8 * 86400 WHERE name = 'one'")
    assert followers.drop_unseen() == ["one"]
    assert followers.lowest() == 7
    found = followers.find("one")
    assert found is not None and found.horizon is None
    assert not followers.touch("one")
    followers.release("one", outbox.now(), 9)
    assert followers.lowest() == 7
    followers.forget("two")
    assert followers.lowest() is None


def test_a_position_of_another_outbox_is_known(database: Database) -> None:
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    ahead = {"postgresql": "1000000:1000000:", "mysql": "7", "sqlite": "7"}[database.backend]
    assert not outbox.begin(ahead)


def test_a_position_behind_an_entry_whose_number_is_given_again_is_known(database: Database) -> None:
    """The database has lost its last commits, and has gone on to beyond the position."""
    database.sql(PERSONS)
    outbox = follow(database, "persons")
    database.sql("INSERT INTO persons VALUES (1, 'x')")
    database.sql("INSERT INTO persons VALUES (2, 'x')")
    assert len(all_of(outbox)) == 2
    number = "xid" if database.backend == "postgresql" else "id"
    table = "gearsync_outbox"
    database.sql(
        f"DELETE FROM {table} WHERE {number} IN (SELECT n FROM (SELECT max({number}) n FROM {table}) m)"
    )
    for statement in {
        "mysql": ["ALTER TABLE gearsync_outbox AUTO_INCREMENT = 2"],
        "sqlite": ["UPDATE sqlite_sequence SET seq = 1 WHERE name = 'gearsync_outbox'"],
    }.get(database.backend, []):
        database.sql(statement)
    for person in range(3, 6):
        database.sql(f"INSERT INTO persons VALUES ({person}, 'x')")
    again = outbox_of(database.connector)
    assert not again.begin(outbox.position)
    # What all have passed may be pruned.
    assert again.begin(outbox.position, outbox.horizon(outbox.position) + 1)
    # Where it is there, it is the same outbox.
    all_of(again)
    assert outbox_of(database.connector).begin(again.position)


def test_a_notification_wakes(on_postgres: Database) -> None:
    on_postgres.sql(PERSONS)
    outbox = follow(on_postgres, "persons")
    waker = outbox.waker()
    assert waker is not None
    assert not waker.wait(0.0)
    on_postgres.sql("INSERT INTO persons VALUES (1, 'x'), (2, 'y')")
    assert waker.wait(10.0)
    assert not waker.wait(0.0)
    on_postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
    )
    with pytest.raises(Unavailable):
        waker.wait(10.0)
    waker.close()


def test_who_may_write_to_the_table_needs_no_more_rights(on_postgres: Database) -> None:
    on_postgres.sql(PERSONS)
    outbox = follow(on_postgres, "persons")
    with session(on_postgres) as somebody:
        somebody.exec_driver_sql("CREATE ROLE gearsync_test_writer")
        somebody.exec_driver_sql("GRANT INSERT ON persons TO gearsync_test_writer")
        somebody.exec_driver_sql("SET ROLE gearsync_test_writer")
        somebody.exec_driver_sql("INSERT INTO persons VALUES (1, 'x')")
        somebody.exec_driver_sql("RESET ROLE")
        somebody.exec_driver_sql("DROP OWNED BY gearsync_test_writer")
        somebody.exec_driver_sql("DROP ROLE gearsync_test_writer")
    assert keys(outbox) == [(b"1",)]
    on_postgres.sql("CREATE TABLE numbered (id SERIAL PRIMARY KEY, name TEXT)")
    follow(on_postgres, "numbered")
    with session(on_postgres) as somebody:
        somebody.exec_driver_sql("INSERT INTO numbered (name) VALUES ('x')")
        assert somebody.exec_driver_sql("SELECT lastval()").scalar_one() == 1
