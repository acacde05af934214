"""The URL of Redis, or a reference to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gears.worker.address import AddressError, OptionError, plain, resolve


def test_a_url_is_itself() -> None:
    assert resolve("redis://127.0.0.1:6379") == "redis://127.0.0.1:6379"


def test_a_variable_or_a_file_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_URL", " redis://u:p@h:1\n")
    assert resolve("env:WORKER_URL") == "redis://u:p@h:1"
    file = tmp_path / "worker.url"
    file.write_text("redis://u:p@h:2\n")
    assert resolve(f"file:{file}") == "redis://u:p@h:2"


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKER_URL", raising=False)
    with pytest.raises(AddressError, match="variable WORKER_URL"):
        resolve("env:WORKER_URL")
    with pytest.raises(AddressError, match=r"nothing.url.*No such file"):
        resolve(f"file:{tmp_path / 'nothing.url'}")
    (tmp_path / "bytes").write_bytes(b"\xffsecret")
    with pytest.raises(AddressError, match="not UTF-8") as raised:
        resolve(f"file:{tmp_path / 'bytes'}")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p@h:1/3", "redis://u:p@h:1"),
        ("redis://h:1?db=3&socket_timeout=5&max_connections=1", "redis://h:1?socket_timeout=5"),
        ("unix:///run/redis.sock?db=3", "unix:///run/redis.sock"),
        (
            "redis+sentinel://h:1,i:2/name?sentinel_password=x",
            "redis+sentinel://h:1,i:2/name?sentinel_password=x",
        ),
        ("rediss://h?ssl_certfile=/c&ssl_keyfile=/k", "rediss://h?ssl_certfile=/c&ssl_keyfile=/k"),
    ],
)
def test_what_is_not_for_the_url_to_say_is_left_out(url: str, expected: str) -> None:
    """A worker in another database than 0 looked for its lanes there, and never found one."""
    assert plain(url) == expected
    assert resolve(url) == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h?retry=3", "option retry that"),
        ("redis://h?decode_responses=1", "option decode_responses that"),
        ("redis://h?encoding_errors=x", "option encoding_errors that"),
        (
            "redis://h?secret=3",
            "an option that gearsync does not take .there are client_name, db,",
        ),
        ("redis://:12?secret=3@h", "an option that"),
        ("redis://h?socket_timeout=nan", "socket_timeout of the Redis URL must be a number of seconds"),
        ("redis://h?socket_timeout=-1", "must be a number of seconds"),
        ("redis://h?socket_timeout=1e12", "must be a number of seconds"),
        ("redis://h?socket_timeout=5&socket_timeout=x", "must be a number of seconds"),
        ("redis://h?max_connections=many", "must be a whole number"),
        ("redis://h?socket_keepalive=off", "must be yes or no"),
        ("rediss://h?ssl_min_version=5", "number of a version of TLS"),
        ("rediss://h?ssl_cert_reqs=some", "none, optional or required"),
        ("rediss://h?ssl_ca_certs=a%00b", "must be a text"),
        ("rediss://h?ssl_keyfile=/k", "needs ssl_certfile"),
        ("redis://h?ssl_ca_certs=/ca", "the option ssl_ca_certs, which redis:// does not take"),
        ("redis://h?sentinel_password=x", "which redis:// does not take"),
        ("unix:///s?socket_keepalive=yes", "which unix:// does not take"),
    ],
)
def test_an_option_that_cant_be_right_is_refused(url: str, said: str) -> None:
    """redis-py takes any of them, or fails with a traceback when it connects."""
    with pytest.raises(OptionError, match=said) as raised:
        plain(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["redis://:12/secret@h", "redis://a..svc", "redis://h:secret", "unix:///a%00b", "h:12"]
)
def test_what_is_no_url_is_not_repeated(url: str) -> None:
    with pytest.raises(AddressError, match=r"^the Redis URL can't be read") as raised:
        resolve(url)
    assert "secret" not in str(raised.value)
    assert "12" not in str(raised.value)
