"""The RedisGears that tests get, wherever it comes from."""

from __future__ import annotations

import pytest

from tests.borrowed_redisgears import GivenRedisGears
from tests.conftest import Gears
from tests.redisgears import RedisGears, home
from tests.servers import ServerError

COUNT = "GB().count().run()"
REGISTER = "GB('KeysReader').filter(lambda record: False).register(prefix='person:*', mode='sync')"


def test_it_runs_scripts_and_keeps_registrations(redisgears: Gears) -> None:
    with redisgears.client() as client:
        client.hset("person:1", "age", 36)
    assert redisgears.run(COUNT)[0] == [b"1"]
    with pytest.raises(ServerError, match="the script failed"):
        redisgears.run("no Python")
    redisgears.run(REGISTER)
    assert [each["reader"] for each in redisgears.registrations()] == ["KeysReader"]


@pytest.mark.skipif(home() is None, reason="needs a RedisGears of its own")
def test_a_server_that_somebody_runs_must_be_empty_and_is_left_so() -> None:
    with RedisGears() as server:
        with GivenRedisGears(server.url) as given, given.client() as client:
            client.hset("person:1", "age", 36)
            given.run(REGISTER)
        with server.client() as client:
            assert not client.dbsize()
            assert not server.registrations()
            client.set("somebody's", "own")
            with pytest.raises(ServerError, match="not empty"):
                GivenRedisGears(server.url).__enter__()
            assert client.dbsize() == 1
