"""Drafts of what SQLAlchemy's and Django's models declare, without any database."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from deploy import cli
from deploy.drafts import models
from gears.declaring import config
from gears.declaring.deployment import Deployment

SHOP = """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Order(Base):
    __tablename__ = "a_orders"
    region: Mapped[str] = mapped_column(sa.String(8), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    twice: Mapped[int] = mapped_column(sa.Computed("id * 2"))
    turn: Mapped[int] = mapped_column(sa.Identity(always=True))

class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), server_default="x")

sa.Table("log", Base.metadata, sa.Column("x", sa.Integer))
"""
DJANGO = """
INSTALLED_APPS = ["gearsync_shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere"}}
"""
DJANGO_MODELS = """
from django.db import models

class Customer(models.Model):
    name = models.CharField(max_length=80, unique=True)

class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    total = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    class Meta:
        db_table = "an_order"
"""


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli.group, ["init", "--out", "out.toml", *arguments], catch_exceptions=False)


def drafted(*arguments: str) -> tuple[Deployment, str]:
    done = init(*arguments)
    assert done.exit_code == 0, done.output
    return config.load("out.toml"), Path("out.toml").read_text("utf-8")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_declarative_classes_become_functions_without_a_database() -> None:
    Path("gearsync_models_a.py").write_text(SHOP)
    made, content = drafted("--models", "gearsync_models_a")
    assert [(each.name, each.mapping.keys.text) for each in made.functions] == [
        ("customers", "customers:{id}"),
        ("a_orders", "a_orders:{region}:{id}"),
    ]
    assert made.functions[1].mapping.columns == {"customer_id": "customer_id"}
    assert next(iter(made.targets.values())).reference == "env:DATABASE_URL"
    assert "# INTEGER, required, refers to customers.id" in content
    assert "# VARCHAR(80), not null" in content
    assert "log: it has no primary key" in content


def test_the_url_tells_the_dialect_of_the_types_and_one_table_may_be_named() -> None:
    Path("gearsync_models_b.py").write_text(SHOP.replace("sa.String(80)", "sa.DateTime()"))
    url = "postgresql://app:s3cret@nowhere/shop"
    made, content = drafted(url, "--models", "gearsync_models_b", "--table", "customers")
    assert [each.name for each in made.functions] == ["customers"]
    assert "TIMESTAMP WITHOUT TIME ZONE" in content
    assert "s3cret" not in content
    typo = init("--models", "gearsync_models_b", "--table", "customer", "--force")
    assert (typo.exit_code, "did you mean customers" in typo.output) == (1, True)


def test_a_module_without_models_or_with_faults_is_said() -> None:
    Path("gearsync_models_c.py").write_text("import no_such_module")
    Path("gearsync_models_d.py").write_text("x = 1")
    for name, sentence in [("c", "No module named 'no_such_module'"), ("d", "has no tables")]:
        done = init("--models", f"gearsync_models_{name}")
        assert (done.exit_code, sentence in done.output) == (1, True), done.output
    assert not Path("out.toml").exists()


def test_a_type_that_the_dialect_lacks_is_still_described() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
                     sa.Column("tags", sa.ARRAY(sa.Text)))  # fmt: skip
    entries, left_out = models.draft([table], None, sa.make_url("sqlite://"))
    assert (entries[0].lines[0].note.startswith("ARRAY("), left_out) == (True, [])


def test_django_models_become_functions_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("django")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "")
    Path("gearsync_site.py").write_text(DJANGO)
    Path("gearsync_shop").mkdir()
    Path("gearsync_shop/__init__.py").touch()
    Path("gearsync_shop/models.py").write_text(DJANGO_MODELS)
    made, content = drafted("--models", "gearsync_site")
    assert {each.name: each.mapping.columns for each in made.functions} == {
        "gearsync_shop_customer": {"name": "name"},
        "an_order": {"customer_id": "customer_id", "total": "total"},
    }
    assert [each.name for each in made.functions][1] == "an_order"
    assert "refers to gearsync_shop_customer" in content
    assert "varchar(80), required, unique" in content
