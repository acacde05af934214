"""The database drivers that a shard's RedisGears lacks; the pins are the last for its Python 3.7."""

from __future__ import annotations

from typing import Any

import redis

from connectors import TargetError
from deploy.hosts.base import text
from gears.deployment import Deployment

SQLALCHEMY = ("sqlalchemy", "SQLAlchemy==2.0.58")
DRIVERS = {
    "postgresql": ("psycopg", "psycopg[binary]==3.1.20"),
    "mysql": ("pymysql", "PyMySQL==1.1.1"),
}
"""What is imported, and the requirement that brings it, for each kind of database but SQLite."""

_FIND = """
import importlib, json
def lacking():
    for name in {names!r}:
        try:
            importlib.import_module(name)
        except ImportError:
            yield name
GB('PythonReader').run(lacking)
"""


def missing_requirements(client: redis.Redis, deployment: Deployment) -> list[str]:
    """Return what one shard must install: the user's own requirements, and the drivers it can't import."""
    wanted = dict([SQLALCHEMY, *(DRIVERS[each] for each in sorted(_backends(deployment)) if each in DRIVERS)])
    reply: Any = client.execute_command("RG.PYEXECUTE", _FIND.format(names=sorted(wanted)))
    lacking = {text(name) for name in reply[0]}
    return [*deployment.requirements, *(wanted[name] for name in wanted if name in lacking)]


def _backends(deployment: Deployment) -> set[str]:
    """Return the kinds of the deployment's databases; all, when one is known only where the shard is."""
    found = set()
    for target in deployment.targets.values():
        try:
            found.add(target.resolve().get_backend_name())
        except TargetError:
            return set(DRIVERS)
    return found
