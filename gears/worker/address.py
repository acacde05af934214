"""The URL of Redis, or where it is to be found, and what may stand in it.

Who may see the module's arguments (MODULE LIST, the list of processes) sees no password then.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.connection import AbstractConnection

MOST_SECONDS = 1_000_000.0
_TRUTH = ("0", "1", "f", "t", "false", "true", "n", "y", "no", "yes")


class AddressError(ValueError):
    """A reference leads to no URL, or to one that can't be right. Its text holds nothing of the URL but the
    name of an option.
    """


class OptionError(AddressError):
    """A URL has an option that it can't have."""


def resolve(reference: str) -> str:
    """Return the URL itself, as ``plain`` makes it: of ``env:NAME``, a variable of this process, or of
    ``file:PATH``, a file that holds it and nothing else. Raises AddressError.
    """
    if reference.startswith("env:"):
        name = reference[len("env:") :]
        text = os.environ.get(name, "")
        if not text.strip():
            raise AddressError(
                f"the environment variable {name}, which should hold the URL of Redis, is not set"
            )
        return plain(text.strip())
    if reference.startswith("file:"):
        return plain(_read(reference[len("file:") :]))
    return plain(reference)


def _read(path: str) -> str:
    try:
        # Some editors put a mark before UTF-8.
        with open(path, encoding="utf-8-sig") as file:
            return file.read().strip()
    except OSError as error:
        raise AddressError(
            f"the file {path}, which should hold the URL of Redis, can't be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError:
        # The error would carry the file's content along.
        raise AddressError(
            f"the file {path}, which should hold the URL of Redis, is not UTF-8 text"
        ) from None


def plain(url: str) -> str:
    """Return a URL without a number of a database, and without the options OURS.

    Raises AddressError when it is no URL, or has an option that redis-py would take for something else than
    was meant: for a Python object, say.
    """
    parts = parts_of(url)
    if "://" not in url:
        raise AddressError("the Redis URL can't be read: it has no ://")
    options = parse_qs(parts.query)
    for name, values in options.items():
        for value in values:
            _require(name, value, parts.scheme)
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise OptionError("the option ssl_keyfile of the Redis URL needs ssl_certfile beside it")
    query = "&".join(each for each in parts.query.split("&") if each.partition("=")[0] not in OURS)
    # Of a socket it is the place, behind sentinels the name of what they watch.
    path = parts.path if parts.scheme == "unix" or parts.scheme.endswith("+sentinel") else ""
    # urlunsplit would take the // from the URL of a socket.
    return f"{parts.scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")


def parts_of(url: str) -> SplitResult:
    """Return the parts of a URL. Raises AddressError when it is none, or when a sign in its password ends the
    login too early: what follows would be taken for a host, and shown.
    """
    try:
        parts = urlsplit(url)
        if "\0" in unquote(parts.path):
            raise ValueError("no file has such a name")
        if not parts.scheme.endswith("+sentinel"):
            require_host(parts.hostname or "")
            # It is read when it is asked for.
            parts.port  # noqa: B018
    except ValueError:
        # The error's own text may quote the URL, and with it a password.
        raise AddressError("the Redis URL can't be read") from None
    options = [each for each in parts.query.split("&") if "=" not in each]
    if parts.scheme != "unix" and any("@" in each for each in (parts.path, parts.fragment, *options)):
        raise AddressError(
            "the Redis URL can't be read: it has a /, ? or # before its @; write such signs in a user's name "
            "or password as %2F, %3F and %23"
        )
    return parts


def require_host(host: str) -> None:
    """See that a text can be a host's name, as the system's resolver takes it. Raises ValueError."""
    host.encode("idna")


# -- Options: what stands behind the ? -----------------------------------------------------------------------


def _is_seconds(text: str) -> bool:
    return math.isfinite(float(text)) and 0 < float(text) <= MOST_SECONDS


_SECONDS = _is_seconds, f"a number of seconds above 0, at most {MOST_SECONDS:,.0f}"
_COUNT = (lambda text: int(text) > 0), "a whole number above 0"
_NUMBER = (lambda text: int(text) >= 0), "a whole number, 0 or more"
_YES_OR_NO = (lambda text: text.lower() in _TRUTH), "yes or no"
_VERSION = (lambda text: bool(ssl.TLSVersion(int(text)))), "the number of a version of TLS, 771 for 1.2"
_REQUIRED = ("none", "optional", "required").__contains__, "none, optional or required"
_TEXT = (lambda text: "\0" not in text), "a text"

OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "client_name": _TEXT,
    "db": _NUMBER,
    "health_check_interval": _NUMBER,
    "max_connections": _NUMBER,
    "password": _TEXT,
    "retry_on_timeout": _YES_OR_NO,
    "sentinel_password": _TEXT,
    "sentinel_username": _TEXT,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _YES_OR_NO,
    "socket_read_size": _COUNT,
    "socket_timeout": _SECONDS,
    "ssl_ca_certs": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_cert_reqs": _REQUIRED,
    "ssl_certfile": _TEXT,
    "ssl_check_hostname": _YES_OR_NO,
    "ssl_ciphers": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_min_version": _VERSION,
    "ssl_password": _TEXT,
    "username": _TEXT,
}
"""How the value of each is told from what is none, and what it is."""
OURS = ("db", "max_connections", "retry_on_timeout")
"""What is passed over: gearsync's own keys are in database 0, it has the connections that it needs, and tries
again by itself."""


def _require(name: str, value: str, scheme: str) -> None:
    if name not in OPTIONS:
        # Any other word may be a part of a password that has a ? in it.
        shown = f" {name}" if name in inspect.signature(AbstractConnection.__init__).parameters else ""
        taken = [each for each in OPTIONS if _fits(each, scheme)]
        close = difflib.get_close_matches(name, taken, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(taken)}"
        raise OptionError(f"the Redis URL has an option{shown} that gearsync does not take ({hint})")
    if not _fits(name, scheme):
        raise OptionError(f"the Redis URL has the option {name}, which {scheme}:// does not take")
    is_right, words = OPTIONS[name]
    try:
        found = is_right(value)
    except (ValueError, OverflowError):
        found = False
    if not found:
        raise OptionError(f"the option {name} of the Redis URL must be {words}")


def _fits(name: str, scheme: str) -> bool:
    """Whether URLs of a scheme have an option."""
    if name.startswith("ssl_"):
        return scheme.startswith("rediss")
    if name.startswith("sentinel_"):
        return scheme.endswith("+sentinel")
    return name != "socket_keepalive" or scheme != "unix"
