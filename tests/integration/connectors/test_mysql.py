"""What only MySQL and MariaDB have."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from connectors import ConversionError, RowOp, SchemaMismatch, TargetError, Unavailable, connect
from connectors.bookkeeping.letters import Remembered
from connectors.errors import Refused
from connectors.mysql import connector as mysql
from connectors.pool import IDLE_SECONDS
from tests.integration.connectors.conftest import STREAM, Database, wait_for_a_waiter
from tests.servers import run_sql


def test_row_that_is_larger_than_a_packet(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE large (id INT PRIMARY KEY, b LONGBLOB)")
    (limit,) = on_mysql.sql("SELECT @@max_allowed_packet")[0]
    size = limit // 5
    rows = [on_mysql.upsert("large", {"id": i, "b": b"x" * (size if i != 2 else limit)}) for i in range(4)]
    assert on_mysql.apply(*rows) == (3, 1)
    assert "max_allowed_packet" in on_mysql.refusals[0].reason
    assert on_mysql.sql("SELECT id, LENGTH(b) FROM large") == [(0, size), (1, size), (3, size)]


def test_table_without_transactions_is_a_mismatch(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE loose (id INT PRIMARY KEY) ENGINE = MyISAM")
    with pytest.raises(SchemaMismatch, match="no transactions"):
        on_mysql.connector.table("loose")


def test_case_insensitive_key_is_warned_about(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE a (id VARCHAR(9) PRIMARY KEY) COLLATE utf8mb4_general_ci")
    on_mysql.sql("CREATE TABLE b (id VARCHAR(9) PRIMARY KEY) COLLATE utf8mb4_bin")
    assert "share one row" in on_mysql.connector.table("a").warnings[0]
    on_mysql.sql("CREATE TABLE c (id ENUM('a', 'b') PRIMARY KEY) COLLATE utf8mb4_general_ci")
    assert on_mysql.connector.table("b").warnings == on_mysql.connector.table("c").warnings == []


def test_session_is_strict_whatever_the_server_says(on_mysql: Any) -> None:
    """Nothing that passes the converters is changed by the server either."""
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, l VARCHAR(9) CHARACTER SET latin1, e ENUM('a', 'b'))")
    rows = [
        on_mysql.upsert("t", {"id": 1, "l": "é", "e": b"a"}),
        on_mysql.upsert("t", {"id": 2, "l": "☃", "e": b"a"}),
    ]
    assert on_mysql.apply(*rows) == (1, 1)
    assert on_mysql.refusals[0].column == "l"
    assert on_mysql.sql("SELECT l FROM t") == [("é",)]


def test_defaults_that_are_expressions(on_mysql: Any) -> None:
    on_mysql.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL, "
        "e VARCHAR(9) NOT NULL DEFAULT (CONCAT('a', 'b')))"
    )
    columns = on_mysql.connector.table("t").columns
    assert [name for name, column in columns.items() if column.has_default] == ["e"]
    on_mysql.sql("INSERT INTO t VALUES (1, 1, 'x'), (2, 1, 'x')")
    on_mysql.apply(on_mysql.upsert("t", {"id": 1, "n": 2}, nulls=["e"]))
    on_mysql.apply(on_mysql.upsert("t", {"id": 2, "n": 2}, defaults=["e"]))
    assert on_mysql.sql("SELECT e FROM t") == [("ab",), ("ab",)]
    on_mysql.apply(on_mysql.upsert("t", {"id": 1, "e": "y"}, nulls=["n"]))
    assert [refusal.column for refusal in on_mysql.refusals] == ["n"]


def test_other_drivers_are_turned_away() -> None:
    with pytest.raises(TargetError, match="PyMySQL"):
        connect("mysql+mysqldb://localhost/x")


def test_columns_whose_names_hold_backticks(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE t (`i``d` INT PRIMARY KEY, `a````b` INT NOT NULL, `c``d` INT UNIQUE)")
    table = on_mysql.connector.table("t")
    assert (table.primary_key, table.unique_sets) == (("i`d",), [("c`d",)])
    on_mysql.apply(on_mysql.upsert("t", {"i`d": 1, "a``b": 2, "c`d": 3}), on_mysql.upsert("t", {"i`d": 2}))
    assert on_mysql.sql("SELECT * FROM t") == [(1, 2, 3)]
    assert [refusal.column for refusal in on_mysql.refusals] == ["a``b"]


def test_labels_with_characters_that_are_escaped(on_mysql: Any) -> None:
    labels = r"'back\\slash', 'o''k', 'a,b', 'new\nline', 'per%cent', '', 'ä'"
    on_mysql.sql(f"CREATE TABLE t (id INT PRIMARY KEY, e ENUM({labels}), s SET('x\\\\y', '''z'))")
    given = ["back\\slash", "o'k", "a,b", "new\nline", "per%cent", "", "ä"]
    rows = [on_mysql.upsert("t", {"id": at, "e": each, "s": "'z,x\\y"}) for at, each in enumerate(given)]
    on_mysql.apply(*rows)
    assert on_mysql.refusals == []
    assert on_mysql.sql("SELECT e, s FROM t ORDER BY id") == [(each, "x\\y,'z") for each in given]


def test_json_of_mariadb_is_judged_as_json(on_mysql: Any) -> None:
    """Where it is but a text with a constraint, the reason would be that constraint's name."""
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, j JSON)")
    with pytest.raises(ConversionError, match="no JSON document"):
        on_mysql.connector.table("t").columns["j"].convert(b"{'a': 1}")


NASTY = ["it's", "a.b", "select `x`", "%s %(y)s", "{z}", "' for column 'id'", 'd"q', "back\\slash"]


@pytest.mark.parametrize("name", NASTY)
def test_column_of_a_refusal_is_named_whatever_its_name(on_mysql: Any, name: str) -> None:
    table, text, number, checked = (quoted(name + each) for each in (" t", "2", "3", "4"))
    run_sql(
        on_mysql.url,
        f"CREATE TABLE {table} (id INT PRIMARY KEY, {quoted(name)} TIMESTAMP NULL, "
        f"{text} VARCHAR(9) CHARACTER SET latin1, {number} INT NOT NULL, "
        f"{checked} INT CHECK ({checked} < 5))",
    )
    fine: dict[str, Any] = {name + "3": 1}
    for at, values in enumerate(
        [{name: b"1900-01-01", **fine}, {name + "2": "☃", **fine}, {name + "4": 4}, {name + "4": 5, **fine}]
    ):
        on_mysql.apply(on_mysql.upsert(name + " t", {"id": at, **values}))
    named = [each.column for each in on_mysql.refusals]
    # MySQL itself tells a constraint's name only.
    of_check = name + "4" if on_mysql.refusals[3].reason.startswith("CONSTRAINT") else ""
    assert named == [name, name + "2", name + "3", of_check]


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@pytest.mark.parametrize("key", ["INT", "TINYINT UNSIGNED AUTO_INCREMENT", "BIGINT UNSIGNED AUTO_INCREMENT"])
@pytest.mark.parametrize("is_known", [True, False])
def test_value_that_another_row_has(on_mysql: Any, key: str, is_known: bool) -> None:
    """Also of an index that came after the table was read."""
    on_mysql.sql(f"CREATE TABLE t (id {key} PRIMARY KEY, mail VARCHAR(9))")
    on_mysql.apply(on_mysql.upsert("t", {"id": 1, "mail": "a@x"}))
    on_mysql.sql("CREATE UNIQUE INDEX mails ON t (mail)")
    if is_known:
        on_mysql.connector.forget_tables()
    assert on_mysql.apply(on_mysql.upsert("t", {"id": 2, "mail": "a@x"})) == (0, 1)
    assert "another row" in on_mysql.refusals[0].reason
    assert on_mysql.apply(on_mysql.upsert("t", {"id": 1, "mail": "b@x"})) == (1, 0)
    assert on_mysql.sql("SELECT id, mail FROM t") == [(1, "b@x")]


def test_primary_key_of_the_first_characters_of_a_column(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE t (id VARCHAR(300), a INT, PRIMARY KEY (id(3)))")
    rows = [on_mysql.upsert("t", {"id": key, "a": at}) for at, key in enumerate(["abc1", "abc2", "abc1"])]
    assert [on_mysql.apply(row) for row in rows] == [(1, 0), (0, 1), (1, 0)]
    assert on_mysql.sql("SELECT id, a FROM t") == [("abc1", 2)]


def test_key_that_a_trigger_changes(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE t (id VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY, a INT)")
    on_mysql.sql("CREATE TRIGGER small BEFORE INSERT ON t FOR EACH ROW SET NEW.id = LOWER(NEW.id)")
    rows = [on_mysql.upsert("t", {"id": "A", "a": at}) for at in range(2)]
    assert [on_mysql.apply(row) for row in rows] == [(1, 0), (1, 0)]
    assert on_mysql.sql("SELECT id, a FROM t") == [("a", 1)]


@pytest.mark.parametrize(
    "signal", ["'45000' SET MYSQL_ERRNO = 1001", "'45000' SET MYSQL_ERRNO = 50001", "'U0001'"]
)
def test_trigger_that_refuses_by_a_number_of_its_own(on_mysql: Any, signal: str) -> None:
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
    on_mysql.sql(
        "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW IF NEW.a = 7 THEN "
        f"SIGNAL SQLSTATE {signal}{',' if 'SET' in signal else ' SET'} MESSAGE_TEXT = 'seven'; END IF"
    )
    assert on_mysql.apply(*(on_mysql.upsert("t", {"id": key, "a": key}) for key in (6, 7, 8))) == (2, 1)
    assert "seven" in on_mysql.refusals[0].reason


def test_server_that_takes_less_at_once_by_now(on_mysql: Any) -> None:
    """So it is after a failover to a server that is configured otherwise."""
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)")
    rows = [on_mysql.upsert("t", {"id": key, "b": b"x" * 200_000}) for key in range(8)]
    on_mysql.apply(*rows)
    [(usual,)] = on_mysql.sql("SELECT @@max_allowed_packet")
    on_mysql.sql("SET GLOBAL max_allowed_packet = 1048576")
    try:
        end_connections(on_mysql)
        time.sleep(IDLE_SECONDS)
        on_mysql.claim = on_mysql.connector.claim(STREAM, 1, "worker-1")
        assert on_mysql.apply(*rows) == (8, 0)
    finally:
        on_mysql.sql(f"SET GLOBAL max_allowed_packet = {usual}")


def test_the_largest_record(on_mysql: Any) -> None:
    on_mysql.connector.ensure_intents()
    record = random.Random(1).randbytes(on_mysql.connector.most_record())
    position = on_mysql.next_position()
    on_mysql.connector.commit_intents(on_mysql.claim, position, None, [], lambda refused: record)
    assert on_mysql.sql("SELECT LENGTH(record) FROM gearsync_intent") == [(len(record),)]


def test_deadlock_while_a_batch_is_isolated(on_mysql: Any) -> None:
    """It takes all of the transaction back, so that nothing may be said of the rest."""
    on_mysql.connector.ensure_intents()
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL)")
    on_mysql.apply(*(on_mysql.upsert("t", {"id": key, "a": 0}) for key in range(300)))
    before = on_mysql.checkpoint()
    units = [[on_mysql.upsert("t", {"id": key, "a": a})] for key, a in ((1, 1), (2, None), (3, 1))]
    with deadlock(
        on_mysql, "SELECT a FROM t WHERE id = 3 FOR UPDATE", "SELECT a FROM t WHERE id = 1 FOR UPDATE"
    ):
        with pytest.raises(Unavailable, match="eadlock"):
            on_mysql.connector.commit_intents(
                on_mysql.claim, on_mysql.next_position(), None, units, lambda refused: b"record"
            )
    assert on_mysql.sql("SELECT COUNT(*) FROM gearsync_intent") == [(0,)]
    assert on_mysql.checkpoint() == before


def test_deadlock_while_letters_are_remembered(on_mysql: Any) -> None:
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL)")
    on_mysql.apply(*(on_mysql.upsert("t", {"id": key, "a": 0}) for key in range(300)))
    rows = [on_mysql.upsert("t", {"id": key, "a": a}) for key, a in ((1, 1), (2, None))]

    def apply() -> None:
        position = on_mysql.next_position()
        kept = [Remembered(position, "1-0", 0, b"")]
        words = on_mysql.claim, position, rows, lambda refused: None, lambda row: ()
        on_mysql.connector.apply(*words, remembered=lambda: kept)

    apply()
    before = on_mysql.checkpoint()
    on_mysql.sql("UPDATE t SET a = 0")
    on_mysql.sql(f"UPDATE gearsync_letter SET ms = {on_mysql.step + 1}")
    with deadlock(
        on_mysql, "SELECT ms FROM gearsync_letter FOR UPDATE", "SELECT a FROM t WHERE id = 1 FOR UPDATE"
    ):
        with pytest.raises(Unavailable, match="eadlock"):
            apply()
    assert (on_mysql.checkpoint(), on_mysql.sql("SELECT a FROM t WHERE id = 1")) == (before, [(0,)])


@contextlib.contextmanager
def deadlock(database: Database, first: str, second: str) -> Iterator[None]:
    """Have somebody lock what ``first`` finds, and, once the block waits for that, what ``second`` finds.

    They have changed so many rows that the server picks the other one to fail.
    """
    engine = sa.create_engine(database.url, poolclass=sa.NullPool)
    with engine.connect() as rival:
        rival.exec_driver_sql("UPDATE t SET a = a + 1 WHERE id >= 100")
        rival.exec_driver_sql(first)

        def go_on() -> None:
            wait_for_a_waiter(database)
            rival.exec_driver_sql(second)
            rival.rollback()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            thread.join(30)


def end_connections(database: Database) -> None:
    """End all connections of others to the database."""
    name = make_url(database.url).database
    wanted = f"SELECT id FROM information_schema.processlist WHERE db = '{name}' AND id <> CONNECTION_ID()"
    for (number,) in database.sql(wanted):
        with contextlib.suppress(sa.exc.OperationalError):
            database.sql(f"KILL {number}")


def test_table_that_is_not_cleared_in_the_time_of_one_answer(
    on_mysql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "SILENT_SECONDS", 1)
    monkeypatch.setattr(mysql, "CLEARED_ROWS", 2)
    database = Database(on_mysql.url, connect(on_mysql.url))
    database.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    database.sql("CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW DO SLEEP(0.3)")
    database.apply(*(database.upsert("t", {"id": key}) for key in range(4)))
    assert database.apply(RowOp("t", "clear")) == (1, 0)
    assert database.sql("SELECT * FROM t") == []
    database.connector.close()


def test_keys_of_characters_that_their_column_lacks(on_mysql: Database) -> None:
    """They never had a row, and hold up nothing."""
    on_mysql.sql("CREATE TABLE t (id VARCHAR(9) CHARACTER SET latin1 PRIMARY KEY, a INT, gone DATETIME)")
    on_mysql.apply(*(on_mysql.upsert("t", {"id": key, "a": 1}) for key in ("a", "é", "☃")))
    assert [(each.row.key, each.column) for each in on_mysql.refusals] == [(("☃",), "id")]
    assert on_mysql.connector.read("t", [("☃",), ("é",)], ["a"]) == [None, (b"1",)]
    assert on_mysql.apply(*(on_mysql.delete("t", key) for key in ("☃", "é", "😀"))) == (3, 0)
    marks = [RowOp("t", "mark", (key,), ("gone",), ("2024-01-01",), mark="gone") for key in ("☃", "a")]
    assert on_mysql.apply(*marks) == (1, 1)
    assert on_mysql.sql("SELECT id, gone IS NULL FROM t") == [("a", 0)]
    on_mysql.sql(
        "CREATE TRIGGER no BEFORE DELETE ON t FOR EACH ROW SIGNAL SQLSTATE 'HY000' "
        "SET MYSQL_ERRNO = 1267, MESSAGE_TEXT = 'mixed'"
    )
    assert on_mysql.apply(on_mysql.delete("t", "a")) == (0, 1)


def test_decimals_that_are_floats(on_mysql: Database) -> None:
    """FLOAT(10, 4) has seven digits, whatever its declaration says: more would be lost without a word."""
    on_mysql.sql("CREATE TABLE t (id INT PRIMARY KEY, f FLOAT(10, 4), d DOUBLE(20, 4))")
    columns = on_mysql.connector.table("t").columns
    on_mysql.apply(on_mysql.upsert("t", {"id": 1, "f": b"123.4567", "d": b"123456789012.1234"}))
    assert on_mysql.connector.read("t", [(1,)], ["f", "d"]) == [(b"123.4567", b"123456789012.1234")]
    for name, value in (("f", b"999999.9999"), ("d", b"1234567890123456.7891")):
        with pytest.raises(ConversionError, match="more digits than a float"):
            columns[name].convert(value)


def test_addresses_are_known_as_the_database_writes_them(on_mysql: Database) -> None:
    on_mysql.sql("CREATE TABLE hosts (id INT PRIMARY KEY, at INET6)")
    at = on_mysql.connector.table("hosts").columns["at"]
    on_mysql.apply(on_mysql.upsert("hosts", {"id": 1, "at": b"2001:DB8:0::1"}))
    assert on_mysql.connector.read("hosts", [(1,)], ["at"]) == [(b"2001:db8::1",)]
    assert on_mysql.connector.as_stored(at, "2001:DB8:0::1") == b"2001:db8::1"
    assert on_mysql.connector.as_stored(at, "none") is None


@pytest.mark.parametrize("number", [3140, 3150, 3151, 3157, 3158])
def test_refusals_of_json_are_known_by_their_numbers(number: int) -> None:
    """Older versions of the driver tell no SQLSTATE."""
    connector = connect("mysql+pymysql://nobody@127.0.0.1/x")
    said = pymysql.err.OperationalError(number, "The JSON document …")
    error = sa.exc.DBAPIError.instance("INSERT", None, said, pymysql.err.Error)
    assert isinstance(error, sa.exc.DBAPIError)
    assert isinstance(connector._explain(error), Refused)
    connector.close()
