"""Which functions of a file are compared with Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import sources
from deploy.hosts.base import Deployed
from deploy.output import CommandError
from gears.declaring.deployment import Deployment
from tests.unit.deploy.faked import FakeHost, shards_of

HASHES = """
from connectors import Target
from gears import WriteBehind

shop = Target("sqlite:////tmp/unused.db", name="shop")
WriteBehind(keys="a:{id}", table="a", columns=["x"], target=shop)
"""
OTHERS = """
WriteBehind(keys="b:{id}", table="b", type="json", columns=["x"], target=shop)
WriteBehind(keys="c:{id}", table="c", type="set", columns={"member": "x"}, target=shop)
"""
HISTORY = 'WriteBehind(keys="a:{id}", table="d", columns=["x"], target=shop, history=True)\n'


def test_all_but_histories_are_compared_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "functions.py"
    file.write_text(HASHES + OTHERS)
    assert [each.function.name for each in sources.comparable(str(file), None, None)] == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    file.write_text(HASHES + OTHERS + HISTORY)
    assert [each.function.name for each in sources.comparable(str(file), None, None)] == ["a", "b", "c"]
    said = " ".join(capsys.readouterr().err.split())
    assert "Not compared, being histories: d. The rows of a history say what was" in said
    with pytest.raises(CommandError, match="d is a history, and is not compared"):
        sources.comparable(str(file), None, "d")
    with pytest.raises(CommandError, match="there is no function e with columns"):
        sources.comparable(str(file), None, "e")


TRANSFORMED = """
from connectors import Target
from gears import WriteBehind

def one(change): return change
def other(change): return change

shop = Target("env:SHOP_DB_URL")
WriteBehind(keys="a:{id}", table="a", columns=["x"], target=shop, transform=one)
"""


def of_text(folder: Path, text: str) -> Deployment:
    file = folder / "shop.py"
    file.write_text(text)
    return sources.load(str(file), None)


def require(folder: Path, text: str, payload: str) -> None:
    """Ask whether a shard that has a payload has what a file says."""
    deployment = of_text(folder, text)
    shards = shards_of(FakeHost(Deployed("shop", 1, "active", payload)))
    sources.require_deployed(shards, deployment, deployment.functions)


PLAIN = TRANSFORMED.replace(", transform=one", "")


@pytest.mark.parametrize(
    ("deployed", "said"),
    [
        (TRANSFORMED, PLAIN),
        (PLAIN, PLAIN.replace("env:SHOP_DB_URL", "env:OTHER_DB_URL")),
        (PLAIN, PLAIN.replace('URL")', 'URL", schema="elsewhere")')),
    ],
    ids=["no-transform", "another-database", "another-schema"],
)
def test_a_file_that_says_other_rows_than_what_is_deployed(tmp_path: Path, deployed: str, said: str) -> None:
    payload = of_text(tmp_path, deployed).to_payload()
    require(tmp_path, deployed, payload)
    with pytest.raises(CommandError, match="in which a is not what the file says"):
        require(tmp_path, said, payload)


def test_a_file_that_names_another_transform(tmp_path: Path) -> None:
    """In TOML that leaves the source as it is."""
    deployment = of_text(tmp_path, TRANSFORMED)
    payload = deployment.to_payload()
    deployment.functions[0].transform_name = "other"
    shards = shards_of(FakeHost(Deployed("shop", 1, "active", payload)))
    with pytest.raises(CommandError, match="in which a is not what the file says"):
        sources.require_deployed(shards, deployment, deployment.functions)


def test_what_a_newer_gearsync_deployed_is_told(tmp_path: Path) -> None:
    payload = of_text(tmp_path, TRANSFORMED).to_payload().replace('"format": 1', '"format": 99')
    with pytest.raises(CommandError, match=r"10\.0\.0\.1:6379 .* format 99.*install the newer gearsync"):
        require(tmp_path, TRANSFORMED, payload)


def test_what_the_file_prints_is_none_of_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_text(tmp_path, f"print('hello')\n{TRANSFORMED}")
    assert capsys.readouterr() == ("", "hello\n")
    (tmp_path / "transforms.py").write_text("print('there')\ndef one(change): return change\n")
    (tmp_path / "shop.toml").write_text(
        'source = "transforms.py"\n[targets.shop]\nurl = "env:SHOP_DB_URL"\n[[functions]]\n'
        'kind = "write-behind"\nkeys = "a:{id}"\ntable = "a"\ntarget = "shop"\ncolumns = ["x"]\n'
        'transform = "one"\n'
    )
    assert sources.load(str(tmp_path / "shop.toml"), None).functions
    assert capsys.readouterr() == ("", "there\n")


def test_a_database_that_no_connector_serves_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DB_URL", "postgresql+psycopg2://u:s3cret@h/d")
    of_text(tmp_path, TRANSFORMED)
    (source,) = sources.comparable(str(tmp_path / "shop.py"), None, None)
    with (
        pytest.raises(CommandError, match="gearsync reaches PostgreSQL by psycopg"),
        sources.connected(source),
    ):
        pass
