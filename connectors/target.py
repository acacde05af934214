"""A target: one SQL database, named, reached by a reference to its URL."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from connectors.errors import TargetError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SECRETS_IN_QUERY = ("password", "passwd", "sslpassword")

#: The driver that each kind of URL is served with when it names none.
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "sqlite": "sqlite+pysqlite",
}


class Target:
    """A database that functions write to.

    url
        ``env:NAME`` (an environment variable where the worker runs), ``file:PATH`` (a file there that holds
        the URL and nothing else), or a URL itself when it holds no password: ``sqlite:////var/data.sqlite``.
    name
        Letters, digits, ``_`` and ``-``. Unless given: the variable's name in lower case, the file's name
        without its ending, or the kind of database.
    schema
        Where its tables are; the connection's default unless given.

    Raises TargetError for a reference or name that is wrong, or that holds a password.
    """

    def __init__(self, url: str, name: str | None = None, schema: str | None = None) -> None:
        if not isinstance(url, str) or not url:
            raise TargetError('a target needs a reference to its URL: "env:NAME" or "file:PATH"')
        if not url.startswith(("env:", "file:")):
            _check_literal(url)
        if schema is not None and not isinstance(schema, str):
            raise TargetError(f"{schema!r} is no schema; write its name, or leave it out")
        self.reference = url
        self.schema = schema
        self.name = _default_name(url) if name is None else name
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            raise TargetError(
                f"{self.name!r} can't be a target's name: up to 64 letters, digits, _ and -; "
                'give another with Target(…, name="…")'
            )

    def resolve(self) -> URL:
        """Return the database's URL, with the driver that gearsync uses for it.

        Raises TargetError that names the variable or file that is missing or holds no URL.
        """
        if self.reference.startswith("env:"):
            variable = self.reference[len("env:") :]
            text = os.environ.get(variable, "")
            if not text:
                raise TargetError(f"the environment variable {variable} of the target {self.name} is not set")
            return parse_url(text, f"the environment variable {variable}")
        if self.reference.startswith("file:"):
            path = self.reference[len("file:") :]
            return parse_url(_read(path, self.name), f"the file {path}")
        return parse_url(self.reference, f"the target {self.name}")

    def __repr__(self) -> str:
        return f"Target({self.reference!r}, name={self.name!r})"


def parse_url(text: str, place: str) -> URL:
    """Return ``text`` as a URL with the driver that gearsync uses; TargetError names only ``place``."""
    # Only here, as most commands never look at a URL and start in half the time without it.
    import sqlalchemy.exc
    from sqlalchemy.engine import make_url

    try:
        url = make_url(text.strip())
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # The parser's own message quotes the URL, and with it the password.
        raise TargetError(
            f"{place} holds no database URL; write it like postgresql://user:password@host/database"
        ) from None
    if "@" in (url.host or ""):
        # The end of a password that holds an @: it would be shown wherever the host is.
        raise TargetError(f"{place} has a URL with two @; write that of a user's name or password as %40")
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _read(path: str, name: str) -> str:
    try:
        # Some editors put a mark before UTF-8.
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise TargetError(f"the file {path} of the target {name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # The error would carry the file's content along.
        raise TargetError(f"the file {path} of the target {name} is not UTF-8 text") from None


def _default_name(reference: str) -> str:
    if reference.startswith("env:"):
        variable = reference[len("env:") :]
        if not variable:
            raise TargetError("env: must be followed by the name of an environment variable")
        return variable.lower()
    if reference.startswith("file:"):
        path = reference[len("file:") :]
        if not path:
            raise TargetError("file: must be followed by the path of a file that holds the URL")
        return os.path.splitext(os.path.basename(path))[0]
    return parse_url(reference, "the reference of a target").get_backend_name()


def _check_literal(reference: str) -> None:
    url = parse_url(reference, "the reference of a target")
    if url.password is not None or any(secret in url.query for secret in _SECRETS_IN_QUERY):
        raise TargetError(
            "the URL of a target must not hold a password, for it is stored in Redis and shown in status; "
            'put the URL into an environment variable or a file, and write "env:NAME" or "file:PATH"'
        )
