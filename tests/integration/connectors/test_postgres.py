"""What only PostgreSQL has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from connectors import ConversionError, Position, RowOp, SchemaMismatch, TargetError, UnreadableRow, connect
from connectors.bookkeeping.letters import Remembered
from connectors.postgres import connector as postgres
from tests.integration.connectors.conftest import Database
from tests.servers import run_sql


def test_constraint_that_waits_for_the_commit(on_postgres: Any) -> None:
    """PostgreSQL may check a constraint only in COMMIT; the row is found all the same."""
    on_postgres.sql("CREATE TABLE late (id INT PRIMARY KEY, a INT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    rows = [on_postgres.upsert("late", {"id": i, "a": i if i != 7 else 6}) for i in range(20)]
    assert on_postgres.apply(*rows) == (19, 1)
    assert on_postgres.refusals[0].row.key in {(6,), (7,)}
    # Two rows that swap their values break it in between only.
    assert on_postgres.apply(*(on_postgres.upsert("late", {"id": i, "a": 3 - i}) for i in (1, 2))) == (2, 0)


def test_schema_of_the_target(on_postgres: Any) -> None:
    on_postgres.sql('CREATE SCHEMA "other %s"')
    on_postgres.sql("CREATE TYPE \"other %s\".mood AS ENUM ('sad', 'o%k')")
    on_postgres.sql('CREATE TABLE "other %s".t (id INT PRIMARY KEY, m "other %s".mood)')
    connector = connect(on_postgres.url, "other %s")
    connector.ensure_checkpoint()
    claim = connector.claim("s", 1, "w")
    row = RowOp("t", "upsert", (1,), ("id", "m"), (1, connector.table("t").columns["m"].convert(b"o%k")))
    connector.apply(claim, on_postgres.next_position(), [row], print, lambda each: ())
    assert on_postgres.sql('SELECT id, m FROM "other %s".t') == [(1, "o%k")]
    assert on_postgres.sql('SELECT COUNT(*) FROM "other %s".gearsync_checkpoint') == [(1,)]
    with pytest.raises(SchemaMismatch, match="in the schema other %s"):
        connector.table("persons")
    connector.close()


def test_arrays_domains_and_generated_columns(on_postgres: Any) -> None:
    on_postgres.sql("CREATE DOMAIN positive AS INT CHECK (VALUE > 0)")
    on_postgres.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, a INT[], p positive, words TEXT[], price NUMERIC(4,1)[], "
        "twice INT GENERATED ALWAYS AS (id * 2) STORED)"
    )
    rows = [
        on_postgres.upsert("t", {"id": 1, "a": b"{1,2}", "p": b"5", "words": b'{"a b",NULL,"c\\"d"}'}),
        on_postgres.upsert("t", {"id": 2, "a": b"{1,x}", "p": b"5", "words": None}),
        on_postgres.upsert("t", {"id": 3, "a": None, "p": b"-5", "words": None}),
    ]
    assert on_postgres.apply(*rows) == (1, 2)
    assert on_postgres.sql("SELECT a, p, words, twice FROM t") == [([1, 2], 5, ["a b", None, 'c"d'], 2)]
    columns = on_postgres.connector.table("t").columns
    assert columns["twice"].has_default
    with pytest.raises(Exception, match="rounded"):
        columns["price"].convert(b"{1.23}")


def test_case_insensitive_key_is_one_row(on_postgres: Any) -> None:
    """One statement may not meet a row twice: the batch is isolated, and each key has its turn."""
    on_postgres.sql(
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )
    on_postgres.sql("CREATE TABLE t (id TEXT COLLATE nocase PRIMARY KEY, a INT)")
    rows = [on_postgres.upsert("t", {"id": key, "a": a}) for key, a in ((b"x", 1), (b"A", 2), (b"a", 3))]
    assert on_postgres.apply(*rows) == (3, 0)
    assert on_postgres.sql("SELECT a FROM t ORDER BY a") == [(1,), (3,)]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "UTF8"])
def test_the_encoding_of_the_database(on_postgres: Database, encoding: str) -> None:
    """SQL_ASCII is none at all: there psycopg gives bytes for texts, unless it is told otherwise."""
    whole = make_url(on_postgres.url)
    name = f"{whole.database}_other"
    on_postgres.sql(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    url = whole.set(database=name)
    # As our own connections: run_sql would read bytes.
    told = url.update_query_dict({"client_encoding": "utf8"}).render_as_string(hide_password=False)
    run_sql(told, "CREATE TABLE t (id TEXT PRIMARY KEY, a VARCHAR(9), j JSONB)")
    connector = connect(url.render_as_string(hide_password=False))
    other = Database(told, connector)
    row = {"id": "ä".encode(), "a": "äöü".encode(), "j": b'{"x": 1}'}
    assert other.apply(other.upsert("t", row)) == (1, 0)
    assert connector.read("t", [("ä",)], ["a"]) == [("äöü".encode(),)]
    assert other.apply(*(other.upsert("t", {"id": key, "a": "☃"}) for key in ("b", "c", "ä"))) == (
        (0, 3) if encoding == "LATIN1" else (3, 0)
    )
    if encoding == "SQL_ASCII":
        run_sql(told, "INSERT INTO t SELECT 'bad', convert_from('\\x44fc', 'SQL_ASCII')")
        with pytest.raises(UnreadableRow, match="a row of t can't be read: invalid byte sequence"):
            connector.read("t", [("ä",), ("bad",)], ["a"])
        with pytest.raises(SchemaMismatch, match="the rows of t can't be read: invalid byte"):
            connector.scan("t", ["a"])
    connector.close()
    on_postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def narrow_url(on_postgres: Any) -> Iterator[str]:
    """The URL of a role that may write to the checkpoint and to nothing else."""
    on_postgres.sql("CREATE TABLE persons (id INT PRIMARY KEY)")
    url = make_url(on_postgres.url)
    role = url.database
    on_postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'")
    on_postgres.sql(f"GRANT ALL ON gearsync_checkpoint TO {role}")
    yield url.set(username=role, password="s3cret").render_as_string(hide_password=False)
    on_postgres.sql(f"DROP OWNED BY {role}")
    on_postgres.sql(f"DROP ROLE {role}")


def test_missing_rights(on_postgres: Any, narrow_url: str) -> None:
    """A checkpoint table that is there needs no right to create it; a table without rights is a mismatch."""
    connector = connect(narrow_url)
    connector.ensure_checkpoint()
    claim = connector.claim("s", 1, "w")
    row = RowOp("persons", "upsert", (1,), ("id",), (1,))
    with pytest.raises(SchemaMismatch, match="permission denied"):
        connector.apply(claim, on_postgres.next_position(), [row], print, lambda each: ())
    connector.close()


def test_letters_of_a_role_that_may_create_no_table(
    on_postgres: Any, narrow_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused holds nothing up there: only a promotion of Redis can lose its letter."""
    on_postgres.sql("CREATE TABLE strict (id INT PRIMARY KEY, a INT NOT NULL)")
    on_postgres.sql(f"GRANT ALL ON strict TO {make_url(narrow_url).username}")
    connector = connect(narrow_url)
    claim = connector.claim("s", 1, "w")
    rows = [RowOp("strict", "upsert", (key,), ("id", "a"), (key, a)) for key, a in ((1, 1), (2, None))]
    kept = [Remembered(Position(1, 1, 0), "1-0", 0, b"")]
    applied = connector.apply(
        claim, Position(1, 1, 0), rows, lambda refused: None, lambda each: (), remembered=lambda: kept
    )
    assert (applied, on_postgres.sql("SELECT id FROM strict")) == ((1, 1), [(1,)])
    assert "takes no note of dead letters" in caplog.text
    connector.close()


def test_other_drivers_are_turned_away() -> None:
    with pytest.raises(TargetError, match="psycopg"):
        connect("postgresql+psycopg2://localhost/x")


def test_server_default_of_another_isolation_and_zone(on_postgres: Any) -> None:
    """What the database has set for its sessions changes nothing for ours."""
    name = make_url(on_postgres.url).database
    run_sql(on_postgres.url, f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    run_sql(on_postgres.url, f"ALTER DATABASE {name} SET DateStyle = 'SQL, DMY'")
    run_sql(on_postgres.url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    on_postgres.connector.close()
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, z TIMESTAMPTZ, n TIMESTAMP)")
    on_postgres.apply(
        on_postgres.upsert("t", {"id": 1, "z": b"2024-03-04T05:06:07", "n": b"2024-03-04T05:06:07Z"})
    )
    found = on_postgres.sql("SELECT CAST(z AT TIME ZONE 'UTC' AS text), n = '2024-03-04 05:06:07' FROM t")
    assert found == [("04/03/2024 05:06:07", True)]


def test_column_of_a_value_that_only_the_server_can_judge(on_postgres: Any) -> None:
    on_postgres.sql("CREATE DOMAIN small AS int CHECK (VALUE < 5)")
    on_postgres.sql(
        'CREATE TABLE t (id INT PRIMARY KEY, "i %s" INET, a INT[], n NUMERIC, d small, r INT4RANGE)'
    )
    bad = {"i %s": "300.1.1.1", "a": "{1,x}", "n": "1e999999", "d": "7", "r": "[9,1]"}
    rows = [on_postgres.upsert("t", {"id": at, name: value}) for at, (name, value) in enumerate(bad.items())]
    on_postgres.apply(*rows)
    assert [refusal.column for refusal in on_postgres.refusals] == list(bad)


def test_parameter_of_a_trigger_is_no_column(on_postgres: Any) -> None:
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    on_postgres.sql(
        "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE d DATE; "
        "BEGIN EXECUTE 'SELECT $1::text::date' INTO d USING NEW.v; RETURN NEW; END $$"
    )
    on_postgres.sql("CREATE TRIGGER j BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION judge()")
    on_postgres.apply(on_postgres.upsert("t", {"id": 1, "v": 2}))
    assert [(each.column, "date" in each.reason) for each in on_postgres.refusals] == [("", True)]


def test_texts_that_are_none_of_their_type(on_postgres: Any) -> None:
    """Such types tell it by codes that others have for a statement, or for a fault of the server."""
    on_postgres.sql("CREATE EXTENSION IF NOT EXISTS hstore")
    on_postgres.sql("CREATE EXTENSION IF NOT EXISTS ltree")
    bad = {
        "v": (b"a:", "tsvector"),
        "q": (b"a &", "tsquery"),
        "h": (b"a=>", "hstore"),
        "l": (b"a..b", "ltree"),
    }
    columns = ", ".join(f"{name} {kind}" for name, (_, kind) in bad.items())
    on_postgres.sql(f"CREATE TABLE t (id INT PRIMARY KEY, {columns})")
    good = on_postgres.upsert("t", {"id": 9, "v": b"a", "q": b"a", "h": b"a=>1", "l": b"a.b"})
    rows = [
        on_postgres.upsert("t", {"id": at, name: text}) for at, (name, (text, _)) in enumerate(bad.items())
    ]
    assert on_postgres.apply(*rows, good) == (1, 4)
    assert {refusal.column for refusal in on_postgres.refusals} == set(bad)


@pytest.mark.parametrize(
    "says",
    ["RAISE EXCEPTION 'seven' USING ERRCODE = 'U0001'", "CASE NEW.a WHEN 6 THEN NULL; END CASE", "NULL"],
)
def test_trigger_that_refuses_by_a_code_of_its_own(on_postgres: Any, says: str) -> None:
    """Also one that does not say what is to happen with some rows."""
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
    on_postgres.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF NEW.a = 7 THEN {says}; ELSE RETURN NEW; END IF; END $$"
    )
    on_postgres.sql("CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()")
    assert on_postgres.apply(*(on_postgres.upsert("t", {"id": key, "a": key}) for key in (6, 7, 8))) == (2, 1)
    assert on_postgres.sql("SELECT id FROM t") == [(6,), (8,)]


def test_row_that_a_policy_refuses(on_postgres: Any, narrow_url: str) -> None:
    role = make_url(narrow_url).username
    on_postgres.sql("CREATE TABLE own (id INT PRIMARY KEY, tenant TEXT)")
    on_postgres.sql("ALTER TABLE own ENABLE ROW LEVEL SECURITY")
    on_postgres.sql("CREATE POLICY ours ON own USING (true) WITH CHECK (tenant = 'a')")
    on_postgres.sql(f"GRANT ALL ON own TO {role}")
    connector = connect(narrow_url)
    ours = Database(on_postgres.url, connector)
    assert ours.apply(
        *(ours.upsert("own", {"id": key, "tenant": name}) for key, name in ((1, "a"), (2, "b")))
    ) == (1, 1)
    assert "policy" in ours.refusals[0].reason
    connector.close()


def test_rows_that_are_more_than_a_message_holds(on_postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "MOST_BYTES", 10_000)
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, b BYTEA)")
    on_postgres.sql("CREATE TABLE sizes (bytes INT)")
    on_postgres.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO sizes SELECT sum(length(b)) FROM n; RETURN NULL; END $$"
    )
    on_postgres.sql(
        "CREATE TRIGGER note AFTER INSERT ON t REFERENCING NEW TABLE AS n "
        "FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )
    rows = [on_postgres.upsert("t", {"id": at, "b": b"x" * 1000 * at}) for at in range(9)]
    assert on_postgres.apply(*rows) == (9, 0)
    sizes = [size for (size,) in on_postgres.sql("SELECT bytes FROM sizes")]
    assert sum(sizes) == 36_000
    assert len([size for size in sizes if size > 5000]) == 3


def test_settings_by_which_values_would_be_read_otherwise(on_postgres: Any) -> None:
    name = make_url(on_postgres.url).database
    on_postgres.sql(f"ALTER DATABASE {name} SET array_nulls = off")
    on_postgres.sql(f"ALTER DATABASE {name} SET lc_monetary = 'POSIX'")
    on_postgres.connector.close()
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, a TEXT)")
    rows = [on_postgres.upsert("t", {"id": key, "a": a}) for key, a in ((1, None), (2, b"x"))]
    assert on_postgres.apply(*rows) == (2, 0)
    assert on_postgres.sql("SELECT a FROM t ORDER BY id") == [(None,), ("x",)]
    with on_postgres.connector.transaction() as connection:
        # Where the comma is the point, 1234.56 would be a hundred times as much money.
        assert connection.exec_driver_sql("SHOW lc_monetary").scalar_one() == "C"


LIMITED = {
    "varchar(3)[]": (b"{ab,abc}", b"{abcd}"),
    "char(2)[]": (b"{ab}", b"{abc}"),
    "bit(3)[]": (b"{101}", b"{1011}"),
    "short": (b"abc", b"abcd"),
    "shorter": (b"abc", b"abcd"),
    "shorts": (b"{abc}", b"{abcd}"),
    "price": (b"1.20", b"1.005"),
    "dear": (b"1.20", b"1.005"),
    "second": (b"2024-01-31T10:00:00+00:00", b"2024-01-31T10:00:00.5+00:00"),
    "INTERVAL": (b"00:00:00.123456", b"00:00:00.1234567"),
    "priced": (None, b"(1.005)"),
    "price[]": (None, b"{1.005}"),
    "NUMERIC(4, 1)[]": (None, b"{1.25}"),
}


def test_nothing_is_cut_or_rounded_within_a_type(on_postgres: Database) -> None:
    """A cast to varchar(3)[], or to a domain of limits, cuts and rounds without a word."""
    for statement in (
        "CREATE DOMAIN short AS VARCHAR(3)",
        "CREATE DOMAIN shorter AS short CHECK (VALUE <> '')",
        "CREATE DOMAIN shorts AS VARCHAR(3)[]",
        "CREATE DOMAIN price AS NUMERIC(10, 2)",
        "CREATE DOMAIN dear AS price CHECK (VALUE > 1)",
        "CREATE DOMAIN second AS TIMESTAMPTZ(0)",
        "CREATE TYPE priced AS (n NUMERIC(10, 2))",
    ):
        on_postgres.sql(statement)
    for number, (declared, (fits, does_not)) in enumerate(LIMITED.items()):
        table = f"t{number}"
        on_postgres.sql(f"CREATE TABLE {table} (id INT PRIMARY KEY, v {declared})")
        column = on_postgres.connector.table(table).columns["v"]
        if fits is not None:
            on_postgres.apply(on_postgres.upsert(table, {"id": 1, "v": fits}))
            assert on_postgres.connector.read(table, [(1,)], ["v"]) == [(fits,)], declared
        assert not on_postgres.refusals
        try:
            row = on_postgres.upsert(table, {"id": 2, "v": does_not})
        except ConversionError:
            continue
        assert on_postgres.apply(row) == (0, 1), declared
        # Nor is it taken for what a cut one would be; but texts that are padded are.
        stored = on_postgres.connector.as_stored(column, column.convert(does_not))
        assert declared == "char(2)[]" or stored != fits, declared
        on_postgres.refusals.clear()


def test_check_of_a_domain_names_its_column(on_postgres: Database) -> None:
    on_postgres.sql("CREATE DOMAIN dear AS NUMERIC(10, 2) CHECK (VALUE > 1)")
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, v dear)")
    assert on_postgres.apply(on_postgres.upsert("t", {"id": 1, "a": 5, "v": b"0.5"})) == (0, 1)
    assert on_postgres.refusals[0].column == "v"


def test_types_whose_arrays_have_no_commas(on_postgres: Database) -> None:
    """They went one by one, for a batch of them was no array."""
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY, v BOX)")
    assert on_postgres.connector.table("t").columns["v"].type is None
    rows = [on_postgres.upsert("t", {"id": each, "v": b"(1,1),(0,0)"}) for each in (1, 2)]
    assert on_postgres.apply(*rows) == (2, 0)
    assert on_postgres.connector.read("t", [(1,), (2,)], ["v"]) == [(b"(1,1),(0,0)",)] * 2


def test_what_takes_no_row_or_value(on_postgres: Database) -> None:
    on_postgres.sql("CREATE TABLE t (id INT PRIMARY KEY DEFERRABLE, n INT GENERATED ALWAYS AS IDENTITY)")
    table = on_postgres.connector.table("t")
    assert "ON CONFLICT takes no such key" in table.unwritable
    assert [name for name, column in table.columns.items() if column.computed] == ["n"]
    on_postgres.sql("CREATE TABLE u (id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a INT)")
    table = on_postgres.connector.table("u")
    assert (table.unwritable, table.columns["id"].computed) == ("", False)
    on_postgres.apply(on_postgres.upsert("u", {"id": 7, "a": 1}))
    on_postgres.apply(on_postgres.upsert("u", {"id": 7, "a": 2}))
    assert on_postgres.sql("SELECT id, a FROM u") == [(7, 2)]
