"""The target of a draft: what the file may say of a database, which never is a password."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from sqlalchemy.engine import URL, make_url

from connectors import Target, TargetError
from connectors.target import parse_url
from deploy.output import CommandError
from deploy.variables import masked, variable_of


@dataclass(frozen=True)
class Reference:
    """``text`` is what the file says, ``name`` the target's name.

    ``setting`` is how the variable must be set (``SHOP_DB_URL=postgresql://app:***@host/shop``); empty: it is
    set already, or needs none. ``url`` None: nothing tells it.
    """

    text: str
    name: str
    setting: str = ""
    url: URL | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """The database for sentences, without secrets: ``the PostgreSQL database shop on db.example.com``."""
        if self.url is None:
            return "the database"
        kinds = {"postgresql": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}
        backend = self.url.get_backend_name()
        place = f" on {self.url.host}" if self.url.host else ""
        name = os.path.basename(self.url.database or "")
        return f"the {kinds.get(backend, backend)} database {name}{place}"


def find(given: str) -> Reference:
    """Return the reference for ``given``: ``env:NAME``, ``file:PATH`` or a URL.

    The variable or the file need not be there. Raises TargetError.
    """
    if given.startswith("file:") and len(given) > len("file:"):
        given = f"file:{os.path.abspath(given[len('file:') :])}"
    if given.startswith(("env:", "file:")):
        return _referred(given)
    url = _whole_path(parse_url(given, "the command line"))
    try:
        text = url.set(drivername=make_url(given.strip()).drivername).render_as_string(hide_password=False)
        Target(text)
    except TargetError:
        variable = variable_of(url.database or "")
        shown = masked(make_url(given.strip()))
        return Reference(f"env:{variable}", _name(variable), f"{variable}={shown}", url)
    stem = os.path.basename(url.database or "")
    stem = stem.partition(".")[0] if url.get_backend_name() == "sqlite" else stem
    return Reference(text, _name(stem or url.get_backend_name()), "", url)


def unnamed() -> Reference:
    """Return the reference for a file that is made when no database was named."""
    return Reference("env:DATABASE_URL", "sql", "DATABASE_URL=postgresql://user:***@host/database")


def require_url(reference: Reference) -> URL:
    """Return the URL of a database that is to be read. Raises CommandError when there is none."""
    if reference.url is None:
        try:
            return Target(reference.text, name=reference.name).resolve()
        except TargetError as error:
            hint = "set it, or give the URL itself: its password is not kept."
            raise CommandError(f"{error}.", hint) from None
    url = reference.url
    if url.get_backend_name() == "sqlite":
        path = url.database
        if not path or path == ":memory:":
            raise CommandError("a SQLite database in memory is one of each process.", "name a file.")
        if not path.startswith("file:") and not os.path.exists(path):
            raise CommandError(
                f"there is no file {path}.", "see the path: three slashes before a relative one."
            )
    return url


def _referred(given: str) -> Reference:
    target = Target(given, name=_name(_stem(given)))
    try:
        return Reference(given, target.name, "", _whole_path(target.resolve()))
    except TargetError:
        # A draft of models needs no database; what needs one asks by require_url, which says what is wrong.
        return Reference(given, target.name)


def _stem(given: str) -> str:
    kind, _, rest = given.partition(":")
    if not rest:
        raise TargetError(f"{kind}: must be followed by {'a name' if kind == 'env' else 'a path'}")
    return rest if kind == "env" else os.path.splitext(os.path.basename(rest))[0]


def _whole_path(url: URL) -> URL:
    """Return the URL with the whole path of its SQLite file: the worker runs in another folder."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path.startswith(("file:", ":memory:")):
        return url
    return url.set(database=os.path.abspath(path))


def _name(text: str) -> str:
    """Return a name for a target, of a variable's or a database's name."""
    name = re.sub("[^a-z0-9_-]+", "_", text.lower()).strip("_")
    return re.sub("(_db)?_url$", "", name)[:64] or "sql"
