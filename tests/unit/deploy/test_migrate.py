"""``gearsync migrate``: recipes for rgsync, as text, and the functions that are written for them, as text."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy import cli
from gears.declaring import config

SHOP = """
from rgsync import RGWriteBehind
from rgsync.Connectors import MySqlConnection, MySqlConnector

shop = MySqlConnection("keeper", "Geheim-7", "db.example:3306/shop")
RGWriteBehind(
    GB,
    keysPrefix="customer",
    mappings={"given": "first", "family": "last", "_note": "note"},
    connector=MySqlConnector(shop, "customers", "customer_id"),
    name="Customers",
    version="99.99.99",
)
RGWriteBehind(
    GB,
    keysPrefix="order",
    mappings={"total": "amount", "state": "state"},
    connector=MySqlConnector(shop, "orders", "order_id"),
    name="Orders",
    version="1.0.0",
    eventTypes=["hset", "del", "expired"],
)
"""

SHOP_FUNCTIONS = """\
# Made by gearsync migrate from recipe.py, a recipe of rgsync.
#
# The URLs of databases are in variables, set where the worker runs:
#   SHOP_DB_URL=mysql://keeper:***@db.example:3306/shop

from connectors import Target
from gears import WriteBehind

shop_db = Target("env:SHOP_DB_URL")

# Customers (RGWriteBehind, line 6).
# rgsync kept the rows of keys that expire; without on_expire="keep" they are deleted.
WriteBehind(
    keys="customer:{customer_id}",
    table="customers",
    columns={"given": "first", "family": "last"},
    target=shop_db,
    name="Customers",
    on_expire="keep",
)

# Orders (RGWriteBehind, line 14).
WriteBehind(
    keys="order:{order_id}",
    table="orders",
    columns={"total": "amount", "state": "state"},
    target=shop_db,
    name="Orders",
)
"""

#: What the recipes below begin with; {0} stands for the rest.
HEAD = """
from rgsync import *
from rgsync.Connectors import *

lite = SQLiteConnection("/var/lib/shop.sqlite")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def migrate(recipe: str, *arguments: str, head: str = "") -> Result:
    Path("recipe.py").write_text(head + textwrap.dedent(recipe), encoding="utf-8")
    # click's runner puts both streams into output, and standard output alone into stdout.
    return CliRunner().invoke(cli.group, ["migrate", "recipe.py", *arguments])


def functions_of(done: Result) -> dict[str, str]:
    """Return key templates by the names of the functions, after loading what was printed."""
    Path("functions.py").write_text(done.stdout, encoding="utf-8")
    return {each.name: each.mapping.keys.text for each in config.load("functions.py").functions}


def behind(connector: str, name: str = "Things", rest: str = "", mappings: str = '{"a": "b"}') -> str:
    return f'RGWriteBehind(GB, "thing", {mappings}, {connector}, "{name}", "1.0.0"{rest})\n'


LITE = 'SQLiteConnector(lite, "things", "id")'


# -- What is written ----------------------------------------------------------------------------------------


def test_a_recipe_becomes_functions(folder: Path) -> None:
    done = migrate(SHOP)
    assert done.exit_code == 0, done.output
    assert done.stdout == SHOP_FUNCTIONS
    assert (
        "Set where the worker runs, with the password for ***: SHOP_DB_URL=mysql://keeper:***@" in done.stderr
    )
    assert "the field # (rgsync's operations" in done.stderr
    assert "operations" not in done.stdout


def test_what_is_written_can_be_loaded(folder: Path) -> None:
    assert functions_of(migrate(SHOP)) == {
        "Customers": "customer:{customer_id}",
        "Orders": "order:{order_id}",
    }
    deployment = config.load("functions.py")
    assert {name: target.reference for name, target in deployment.targets.items()} == {
        "shop_db_url": "env:SHOP_DB_URL"
    }
    assert deployment.functions[0].mapping.policies()["on_expire"] == "keep"


def test_output_is_a_new_file(folder: Path) -> None:
    done = migrate(SHOP, "--output", "new.py")
    assert (done.exit_code, done.stdout) == (0, "")
    assert Path("new.py").read_text("utf-8") == SHOP_FUNCTIONS
    again = migrate(SHOP, "--output", "new.py")
    assert again.exit_code == 1
    assert "new.py is there already" in again.output


def test_one_variable_for_each_database(folder: Path) -> None:
    done = migrate(
        'here = MySqlConnection("a", "p", "host1/shop")\n'
        'there = PostgresConnection("b", "p", "host2:5433/shop?sslmode=require&password=Geheim-7")\n'
        'number = MySqlConnection("c", "p", "host/7")\n'
        + behind('MySqlConnector(here, "t", "id")', "A")
        + behind('PostgresConnector(there, "t", "id")', "B")
        + behind('MySqlConnector(MySqlConnection("a", "q", "host1/shop"), "u", "id")', "C")
        + behind('MySqlConnector(number, "t", "id")', "D")
        + behind(LITE, "E"),
        head=HEAD,
    )
    assert done.exit_code == 0, done.output
    assert [line[4:] for line in done.stdout.splitlines() if line.startswith("#   ")] == [
        "SHOP_DB_URL=mysql://a:***@host1/shop",
        "SHOP_2_DB_URL=postgresql://b:***@host2:5433/shop?password=***&sslmode=require",
        "DB_7_DB_URL=mysql://c:***@host/7",
        "SHOP_3_DB_URL=sqlite:////var/lib/shop.sqlite",
    ]
    assert set(functions_of(done)) == set("ABCDE")


def test_names_that_postgresql_folds_are_written_as_it_has_them(folder: Path) -> None:
    connector = 'PostgresConnector(PostgresConnection("b", "p", "host/shop"), {}, "Id")'
    done = migrate(
        behind(connector.format('"Sales.Things"'), "A", mappings='{"a": "B"}')
        + behind(connector.format("'Sales.\"Things\"'"), "B"),
        head=HEAD,
    )
    assert functions_of(done) == {"A": "thing:{id}", "B": "thing:{id}"}
    assert (
        done.stdout.count('shop_db_sales = Target("env:SHOP_DB_URL", name="shop_db_sales", schema="sales")')
        == 1
    )
    first, second = config.load("functions.py").functions
    assert (first.mapping.table, first.mapping.columns) == ("things", {"a": "b"})
    assert second.mapping.table == "Things"


@pytest.mark.parametrize(
    ("events", "policies"),
    [
        ("", {"on_expire": "keep"}),
        (', eventTypes=["hset"]', {"on_delete": "keep", "on_expire": "keep"}),
        (', eventTypes=["hset", "del", "expired", "evicted"]', {"on_evict": "delete"}),
        (", eventTypes=None", {"on_evict": "delete"}),
        (', eventTypes=["HSET", "DEL"]', {"on_expire": "keep"}),
    ],
)
def test_events_become_policies(folder: Path, events: str, policies: dict[str, str]) -> None:
    functions_of(migrate(behind(LITE, rest=events), head=HEAD))
    [function] = config.load("functions.py").functions
    defaults = {"on_delete": "delete", "on_expire": "delete", "on_evict": "keep", "on_flush": "keep"}
    assert function.mapping.policies() == {**defaults, **policies}


def test_a_field_that_can_not_be_mapped_is_left_out_and_named(folder: Path) -> None:
    done = migrate(behind(LITE, mappings='{"a": "id", "b": "x", "c": "x"}'), head=HEAD)
    assert 'columns={"c": "x"},' in done.stdout
    assert "the field a is left out, for the key fills its column, id." in done.stderr
    assert "the field b is left out, for c fills its column, x." in done.stderr


def test_what_is_given_beyond_that_is_named(folder: Path) -> None:
    done = migrate(behind(LITE, rest=", batch=10, onFailedRetryInterval=1"), head=HEAD)
    assert done.exit_code == 0
    assert "batch and onFailedRetryInterval left out" in done.stderr


def test_a_prefix_with_a_colon_is_said_to_mean_something_else(folder: Path) -> None:
    done = migrate(behind(LITE).replace('"thing"', '"shop:{thing}"'), head=HEAD)
    assert functions_of(done) == {"Things": "shop:{{thing}}:{id}"}
    assert "here always '{thing}'; the function takes what follows shop:{thing}:" in done.stderr


def test_a_name_within_an_earlier_one_is_told(folder: Path) -> None:
    done = migrate(behind(LITE, "ThingsBehind") + behind(LITE), head=HEAD)
    assert functions_of(done) == {"ThingsBehind": "thing:{id}", "Things": "thing:{id}"}
    assert "ThingsBehind (RGWriteBehind, line 6): rgsync takes Things, whose name is a part of" in done.stderr
    assert "whose name is a part" not in migrate(behind(LITE) + behind(LITE, "ThingsToo"), head=HEAD).stderr


def test_our_own_connector_keeps_its_target(folder: Path) -> None:
    done = migrate(
        "from connectors import Target\nfrom connectors.rgsync import RgsyncConnector\n"
        + behind('RgsyncConnector(Target("env:OURS", name="Target", schema="s"), "Things", "id")'),
        head=HEAD,
    )
    assert 'target_Target = Target("env:OURS", name="Target", schema="s")' in done.stdout
    assert functions_of(done) == {"Things": "thing:{id}"}


def test_what_the_recipe_prints_is_not_among_the_functions(folder: Path) -> None:
    done = migrate('print("hello")\nlog("hello")\n' + SHOP)
    assert "hello" in done.stderr
    assert done.stdout.splitlines()[0] == "# Made by gearsync migrate from recipe.py, a recipe of rgsync."


def test_long_columns_stand_one_a_line(folder: Path) -> None:
    mappings = {f"field_{number}": f"column_{number}" for number in range(9)}
    done = migrate(behind(LITE, mappings=repr(mappings)), head=HEAD)
    assert '    columns={\n        "field_0": "column_0",\n' in done.stdout
    assert functions_of(done)


# -- Write-through ------------------------------------------------------------------------------------------

THROUGH = 'RGWriteThrough(GB, "{}", {{"a": "b"}}, ' + LITE + ', "Through", "1.0.0")\n'


def test_write_through_alone_becomes_write_through(folder: Path) -> None:
    done = migrate(THROUGH.format("__{thing:"), head=HEAD)
    assert done.exit_code == 0
    assert functions_of(done) == {"Through": "thing:{id}"}
    assert "from gears import WriteThrough\n" in done.stdout and "\nWriteThrough(\n" in done.stdout
    assert "Through (RGWriteThrough, line 6): clients write the keys themselves" in done.stderr
    assert "# Through (RGWriteThrough, line 6). Clients write the keys themselves" in done.stdout
    assert "With rgsync # ~ alone deleted a row; here DEL of the key does." in done.stdout
    assert "run this with --operations" not in done.stderr


def test_a_recipe_of_both_kinds_becomes_two_files(folder: Path) -> None:
    recipe = THROUGH.format("__{other:") + behind(LITE)
    done = migrate(recipe, head=HEAD)
    assert done.exit_code == 1
    assert functions_of(done) == {"Things": "thing:{id}"}
    assert "not both: --through for a file of its own." in done.stderr
    done = migrate(recipe, "--through", head=HEAD)
    assert done.exit_code == 1
    assert functions_of(done) == {"Through": "other:{id}"}
    assert "not both: run this without --through for a file of its own." in done.stderr


def test_the_keys_of_write_through_are_those_of_write_behind_on_its_table(folder: Path) -> None:
    done = migrate(THROUGH.format("__") + behind(LITE), "--through", "--operations", head=HEAD)
    assert done.exit_code == 0
    assert functions_of(done) == {"Through": "thing:{id}"}
    assert "operations" not in done.stdout
    assert "each write of these keys waits until SQL has it, by Through" in done.stderr


def test_write_through_of_what_write_behind_takes_is_not_written(folder: Path) -> None:
    done = migrate(THROUGH.format("__") + behind(LITE), head=HEAD)
    assert done.exit_code == 0
    assert functions_of(done) == {"Things": "thing:{id}"}
    assert "each write of these keys gets its reply at once, by Things" in done.stderr


def test_keys_that_the_recipe_does_not_tell_are_asked_for(folder: Path) -> None:
    done = migrate(THROUGH.format("__"), head=HEAD)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "say so: --keys 'Through=PREFIX:{id}'" in done.stderr
    told = migrate(THROUGH.format("__"), "--keys", "Through=thing:{id}", head=HEAD)
    assert functions_of(told) == {"Through": "thing:{id}"}


def test_a_table_of_several_keys_does_not_tell_those_of_write_through(folder: Path) -> None:
    others = behind(LITE, "Others").replace('"thing"', '"other"')
    recipe = THROUGH.format("__") + behind(LITE) + others
    done = migrate(recipe, "--through", head=HEAD)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "and the recipe writes other:{id} and thing:{id} to its table; say so: --keys" in done.stderr
    told = migrate(THROUGH.format("__{a:b:"), "--through", head=HEAD)
    assert functions_of(told) == {"Through": "a:b:{id}"}
    assert "rgsync takes the second part of a key for the row, here always 'b'" in told.stderr


def test_a_template_must_be_for_a_declaration_and_be_one(folder: Path) -> None:
    assert "the recipe declares no Other" in migrate(SHOP, "--keys", "Other=a:{id}").output
    assert migrate(SHOP, "--keys", "Orders").exit_code == 2
    done = migrate(SHOP, "--keys", "Orders=order")
    assert done.exit_code == 1
    assert "Orders (RGWriteBehind, line 14) is not written: keys:" in done.stderr


# -- What has no counterpart --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connector", "sentence"),
    [
        ('MongoConnector(MongoConnection("u", "p", "h"), "db", "t", "id")', "for MongoDB (MongoConnector)"),
        ('CqlConnector(CqlConnection("u", "p", "h", "k"), "t", "id")', "for Cassandra (CqlConnector)"),
        ('RedisConnector(RedisConnection("h", 1, "p"), "t")', "for Redis (RedisConnector)"),
        ('RedisConnector(RedisClusterConnection("h", 1), "t")', "for Redis (RedisConnector)"),
        ('SimpleHashConnector("t")', "for Redis (SimpleHashConnector)"),
        ('OracleSqlConnector(OracleSqlConnection("u", "p", "h"), "t", "id")', "for Oracle (Oracle"),
        ('SnowflakeSqlConnector(SnowflakeSqlConnection("u", "p", "h", "a"), "t", "i")', "for Snowflake (S"),
        ('MsSqlConnector(MsSqlConnection("u", "p", "d", "s", 1, "d"), "t", "id")', "for SQL Server (MsSql"),
        ('DB2Connector(DB2Connection("u", "p", "h"), "t", "id")', "for DB2 (DB2Connector)"),
        ('MySqlConnector(lite, "t", "id")', "its MySqlConnector has a SQLiteConnection"),
        ('type("Mine", (SQLiteConnector,), {})(lite, "t", "id")', "its connector, Mine, is the recipe's own"),
        ('SQLiteConnector(lite, "a.b.c", "id")', "its table, a.b.c, is not written as table or schema.table"),
        (LITE.replace('"id"', '"i}d"'), "keys: "),
    ],
)
def test_what_has_no_counterpart_is_named_and_the_rest_written(
    folder: Path, connector: str, sentence: str
) -> None:
    done = migrate(behind(connector, "Other") + behind(LITE), head=HEAD)
    assert done.exit_code == 1
    assert "Warning: Other (RGWriteBehind, line 6) is not written: " in done.stderr
    assert sentence in done.stderr
    assert "# Other (RGWriteBehind, line 6) is not written: " in done.stdout
    assert done.stderr.splitlines()[-1] == "Error: 1 part of recipe.py is not written."
    assert functions_of(done) == {"Things": "thing:{id}"}


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        (
            f'RGJSONWriteBehind(GB, "doc", {LITE}, "Other", "1.0.0", batch=5)',
            "brings JSON documents to MongoDB whole",
        ),
        (f'RGJSONWriteThrough(GB, "doc", {LITE}, name="Other")', "brings JSON documents to MongoDB whole"),
        (behind(LITE, "Other", ", transform=lambda r: r"), "its transform takes records of RedisGears"),
        (behind(LITE), "a later declaration has the same name"),
        (
            behind(LITE, "Other").replace('"thing"', '"thi*"'),
            "its prefix, thi*, is a pattern; say so: --keys",
        ),
        (behind(LITE, "Other", mappings="{}"), "columns: no field is mapped"),
        (behind(LITE, "Other", mappings='["a"]'), "its mappings are no dict"),
        (behind(LITE).replace('"Things"', "None"), "its name is None, which is no text"),
        (behind(LITE, "Other").replace('"thing"', "None"), "its prefix is None, which is no text"),
        (behind(LITE, "Other").replace('"id"', "None"), "the column of its primary key is called None"),
        ('GB("StreamReader").map(str).register("s")', "GB('StreamReader').register (line 6) is not written"),
        (
            "GearsBuilder().map(str).run()",
            "GB('KeysReader').run (line 6) is not written: it is RedisGears code",
        ),
    ],
)
def test_what_else_is_not_written(folder: Path, declaration: str, sentence: str) -> None:
    done = migrate(declaration + "\n" + behind(LITE), head=HEAD)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert functions_of(done) == {"Things": "thing:{id}"}


# -- Recipes that do something else -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ("import os\n1 / 0", "recipe.py:2: the recipe raises ZeroDivisionError: division by zero."),
        ("a b", "recipe.py:1: this is not Python: invalid syntax."),
        (
            "import nothing_like_that",
            "recipe.py:1: ModuleNotFoundError: No module named 'nothing_like_that'.",
        ),
        ("exit(3)", "recipe.py:1: the recipe ends the program."),
        ('\nexecute("SET", "a", 1)', "recipe.py:2: the recipe calls execute of RedisGears itself"),
        (
            "import redisgears\nredisgears.executeCommand('PING')",
            "recipe.py:2: the recipe calls executeCommand",
        ),
        (
            "from rgsync import RGWriteBehind\nRGWriteBehind(GB, streamName='s')",
            "recipe.py:2: the recipe raises",
        ),
        ("x = 1", "recipe.py declares nothing to rgsync that gearsync can do."),
    ],
)
def test_a_recipe_that_does_something_else_is_an_error_with_its_place(
    folder: Path, recipe: str, error: str
) -> None:
    done = migrate(recipe, "--output", "new.py")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"Error: {error}" in done.stderr
    assert not Path("new.py").exists()


def test_a_recipe_that_is_not_utf_8(folder: Path) -> None:
    Path("latin.py").write_bytes(b"# \xe9\n")
    done = CliRunner().invoke(cli.group, ["migrate", "latin.py"])
    assert (done.exit_code, "latin.py is not UTF-8" in done.output) == (1, True)


def test_a_recipe_is_read_as_python_reads_it(folder: Path) -> None:
    recipe = (HEAD + behind(LITE, mappings='{"a": "größe"}')).replace("\n", "\r\n")
    for head, encoding in (("", "utf-8-sig"), ("# coding: latin-1\r\n", "latin-1")):
        Path("odd.py").write_bytes((head + recipe).encode(encoding))
        done = CliRunner().invoke(cli.group, ["migrate", "odd.py"])
        assert 'columns={"a": "größe"},' in done.stdout, done.output
    Path("odd.py").write_bytes(b"# coding: none\n")
    done = CliRunner().invoke(cli.group, ["migrate", "odd.py"])
    assert (
        done.exit_code,
        "odd.py is not UTF-8, nor in an encoding that it declares: unknown" in done.output,
    ) == (1, True)


# -- Secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        SHOP,
        SHOP + "raise ValueError(f'cannot log in with {shop.passwd}')",
        SHOP.replace('"keeper"', '"keeper:Geheim-7"'),
        SHOP.replace("db.example:3306/shop", "other:Geheim-7@db.example/shop?passwd=Geheim-7"),
        SHOP.replace('"Geheim-7"', 'lambda: "Geheim-7"'),
        SHOP + "MongoConnection('u', password='Geheim-7', db='x').nothing('Geheim-7')",
    ],
)
def test_no_password_is_written(folder: Path, recipe: str) -> None:
    done = migrate(recipe)
    assert "Geheim" not in done.output
    assert "Geheim" not in done.stdout + done.stderr


def test_what_a_connection_asks_a_function_for(folder: Path) -> None:
    done = migrate(
        behind('MySqlConnector(MySqlConnection(lambda: 1 / 0, print, lambda: "h/d"), "t", "id")', "A")
        + behind('MySqlConnector(MySqlConnection(configGet("x"), "p", configGet("y")), "t", "id")', "B"),
        head=HEAD,
    )
    assert "#   D_DB_URL=mysql://USER:***@h/d\n" in done.stdout
    assert "#   DATABASE_DB_URL=mysql://USER:***@HOST/DATABASE\n" in done.stdout


# -- The process --------------------------------------------------------------------------------------------


def test_the_stand_ins_are_gone_afterwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(sys)("rgsync")
    monkeypatch.setitem(sys.modules, "rgsync", real)
    assert migrate(SHOP).exit_code == 0
    assert sys.modules["rgsync"] is real
    assert "redisgears" not in sys.modules
    assert "rgsync.Connectors" not in sys.modules


def test_operations_are_kept_when_asked_for(folder: Path) -> None:
    done = migrate(SHOP, "--operations")
    assert done.stdout.count("    operations=True,\n") == done.stdout.count("WriteBehind(\n") == 2
    assert "Redis 7.2 or newer" in done.stderr
    functions_of(done)
    assert all(each.mapping.operations for each in config.load("functions.py").functions)
