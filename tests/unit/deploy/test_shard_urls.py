"""What is made of Redis URLs without asking any server."""

from __future__ import annotations

import ssl

import pytest
from redis.exceptions import AskError, MovedError, RedisError, TryAgainError

from deploy.reaching import tls
from deploy.reaching.connections import direct_url
from deploy.reaching.server_errors import ShardError, errors_of
from deploy.reaching.shards import connect
from gears.declaring.errors import PayloadError


@pytest.mark.parametrize(
    ("url", "address", "expected"),
    [
        ("redis://h:1", "n:2", "redis://n:2"),
        (
            "redis://user:p%40ss@h:1/3?socket_timeout=5&db=4",
            "n:2",
            "redis://user:p%40ss@n:2?socket_timeout=5",
        ),
        ("rediss://:word@h:1?ssl_ca_certs=/ca.pem", "n:2", "rediss://:word@n:2?ssl_ca_certs=/ca.pem"),
        ("redis+sentinel://:word@h:1,i:2/name?sentinel_password=x", "n:2", "redis://:word@n:2"),
        ("rediss+sentinel://h:1/name", "[::1]:2", "rediss://[::1]:2"),
    ],
)
def test_one_primarys_own_url_keeps_credentials_and_options(url: str, address: str, expected: str) -> None:
    assert direct_url(url, address) == expected


@pytest.mark.parametrize("url", ["", "h:1", "http://h", "redis+sentinel:///name", "redis+sentinel://h:1"])
def test_what_is_no_url_says_what_is(url: str) -> None:
    with pytest.raises(ShardError) as raised:
        connect(url)
    assert "redis://" in raised.value.hint


def test_a_url_that_cant_be_read_is_not_repeated() -> None:
    with pytest.raises(ShardError) as raised:
        connect("redis://:secret word@host:port")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:12/secret@127.0.0.1:1",
        "redis://:12?secret@127.0.0.1:1",
        "redis://:12#secret@127.0.0.1:1",
        "redis+sentinel://:secret/word@127.0.0.1:1/name",
        "redis://user:secret[@127.0.0.1:1",
    ],
)
def test_a_password_with_signs_that_end_it_is_not_taken_for_a_host(url: str) -> None:
    with pytest.raises(ShardError) as raised:
        connect(url)
    shown = f"{raised.value} {raised.value.hint}"
    assert "can't be read" in shown
    assert "secret" not in shown
    assert "12" not in shown


@pytest.mark.parametrize("error", [AskError("5 h:2"), MovedError("5 h:2"), TryAgainError("rehashing")])
def test_a_redirection_is_told_as_what_it_means(error: RedisError) -> None:
    with pytest.raises(ShardError) as raised, errors_of("h:1"):
        raise error
    assert str(raised.value) == "Redis at h:1 is giving a slot to another shard, or taking one."


@pytest.mark.parametrize(
    "url", ["redis://a..svc:6379", "rediss://.svc", "redis+sentinel://a..svc:26379/name"]
)
def test_a_host_that_no_name_can_be_is_refused_before_anybody_is_asked(url: str) -> None:
    """As of a URL that a template made of nothing."""
    with pytest.raises(ShardError) as raised:
        connect(url)
    assert "redis://" in raised.value.hint


def test_what_is_deployed_by_a_newer_gearsync_is_a_sentence() -> None:
    with pytest.raises(
        ShardError, match=r"what is deployed on h:1 can't be read here: the payload has format 9\."
    ):
        with errors_of("h:1"):
            raise PayloadError("the payload has format 9")


@pytest.mark.parametrize("url", ["redis://h:1?retry=3", "redis+sentinel://h:1/name?retry=3"])
def test_an_option_that_nobody_may_give_is_a_sentence(url: str) -> None:
    with pytest.raises(ShardError, match="option retry that gearsync does not take"):
        connect(url)


def test_a_list_of_ciphers_that_names_none_is_a_sentence() -> None:
    """It is Python's own error, which has no reason as those of the library have."""
    with pytest.raises(ssl.SSLError) as cause:
        ssl.create_default_context().set_ciphers("none of these")
    found = tls.trouble(cause.value, "h:1")
    assert found is not None
    assert found.what == "refused the TLS session: No cipher can be selected."
