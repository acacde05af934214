"""Whether something may be written here, where Redis would refuse a client's write and not this code's."""

from __future__ import annotations

from gears.redisgears.api import execute


class NoPlace(Exception):
    """Nothing may be written here now."""


def is_primary() -> bool:
    """Whether this server takes writes."""
    return bool(execute("ROLE")[0] == "master")


def takes_writes() -> bool:
    """Whether a client may write here: also to a replica, where that is configured so."""
    return is_primary() or "slave_read_only:0" in execute("INFO", "replication")


def has_memory() -> bool:
    """Whether there is memory left, or some can be made free."""
    lines = [line.strip().partition(":") for line in execute("INFO", "memory").splitlines()]
    memory = {name: value for name, _, value in lines}
    limit = int(memory["maxmemory"])
    return not limit or int(memory["used_memory"]) <= limit or memory["maxmemory_policy"] != "noeviction"


def require_place() -> None:
    """Raise NoPlace where a client's own write would be refused."""
    if not is_primary():
        raise NoPlace("this server is a replica now")
    if not has_memory():
        raise NoPlace("command not allowed when used memory > 'maxmemory'")
