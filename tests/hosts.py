"""The two hosts that one behavioural suite runs on: a server with the module, or with RedisGears 1.2."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from deploy.hosts.base import Host
from deploy.hosts.module import ModuleHost
from deploy.hosts.redisgears import RedisGearsHost
from tests.redisgears import ABSENT, RedisGears, home
from tests.sanitizers import module_path
from tests.servers import RedisServer

HOSTS = ("module", "redisgears")


def server_of(host: str, *options: str) -> RedisServer:
    """Return a server of a host, not started; skip the test where there is no RedisGears."""
    if host == "module":
        return RedisServer(*options, module=module_path(), module_arguments=("PYTHON", sys.executable))
    if home() is None:
        pytest.skip(ABSENT)
    return RedisGears(*options)


def asked(server: RedisServer, **options: Any) -> Host:
    """Return what the command line would ask the server; the options are those of its client."""
    kind = RedisGearsHost if isinstance(server, RedisGears) else ModuleHost
    return kind(server.client(**options))


def wait(server: RedisServer, seconds: float, deployment: str | None = None) -> bool:
    """Return whether all that was written is in SQL, or a dead letter, in time."""
    host = asked(server, socket_timeout=None)
    with host.client:
        return host.wait(round(seconds * 1000), deployment, None)


def status(server: RedisServer) -> dict[str, Any]:
    """Return the status document of a server."""
    host = asked(server)
    with host.client:
        return host.status()
