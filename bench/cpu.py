"""CPU time of the servers of a benchmark: it says more than rates do where other work shares the machine."""

from __future__ import annotations

from collections.abc import Iterable

import psutil
from sqlalchemy.engine import make_url

from tests.servers import RedisServer


def listening(port: int | None) -> list[psutil.Process]:
    """Return the process that listens on a port of this machine, in a list; an empty one: there is none."""
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
            return [psutil.Process(each.pid)]
    return []


def servers(server: RedisServer, url: str, worker: psutil.Process) -> list[psutil.Process]:
    """Return Redis, the worker, and the database where it runs on this machine."""
    return [*listening(server.port), worker, *listening(make_url(url).port)]


def seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds that processes have had, with their children, also those that have ended."""
    spent = 0.0
    for process in processes:
        times = process.cpu_times()
        spent += times.user + times.system + times.children_user + times.children_system
        for child in process.children(recursive=True):
            try:
                spent += sum(child.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
    return spent
