"""Connections that were closed while idle are replaced before a batch meets them, and those to a server that
only reads by now are closed: its place may be another one's.
"""

from __future__ import annotations

import time
from typing import Any, Callable

import sqlalchemy as sa
from sqlalchemy.engine import Engine

#: Seconds after which an idle connection is asked whether it still lives. Asking costs a round trip, which a
#: stream of small batches need not pay each time.
IDLE_SECONDS = 0.5

_USED = "gearsync_used"


def watch(
    engine: Engine, is_demoted: Callable[[BaseException], bool], idle_seconds: float = IDLE_SECONDS
) -> None:
    """Have ``engine`` ping a connection that was idle for a while, and open another when it is dead, or when
    an error on it ``is_demoted``.
    """

    def checked_in(connection: Any, record: Any) -> None:
        record.info[_USED] = time.monotonic()

    def checked_out(connection: Any, record: Any, proxy: Any) -> None:
        used = record.info.get(_USED)
        if used is None or time.monotonic() - used < idle_seconds:
            return
        if not is_alive(engine, connection):
            raise sa.exc.DisconnectionError

    def failed(context: sa.engine.ExceptionContext) -> None:
        if is_demoted(context.original_exception):
            context.is_disconnect = True

    sa.event.listen(engine, "handle_error", failed)
    sa.event.listen(engine, "checkin", checked_in)
    sa.event.listen(engine, "checkout", checked_out)


def is_alive(engine: Engine, connection: Any) -> bool:
    """Whether a connection of the driver still answers."""
    try:
        return bool(engine.dialect.do_ping(connection))
    except engine.dialect.loaded_dbapi.Error:
        return False
