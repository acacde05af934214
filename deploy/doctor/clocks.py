"""The clocks: of this machine, of each Redis, and of each database."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploy.doctor.asking import Redis
from deploy.doctor.findings import Place

#: Seconds that two clocks may be apart, beside the time that it takes to ask.
APART = 1.0


def check_redis(server: Redis) -> None:
    """Compare the clock of one shard with ours."""

    def asked() -> float | None:
        reply = server.ask("TIME")
        return None if reply is None else int(reply[0]) + int(reply[1]) / 1e6

    check(server.place, asked)


def check(place: Place, ask: Callable[[], float | None]) -> None:
    """Compare a clock with ours; ``ask`` returns seconds since 1970, or None."""
    before = time.time()
    theirs = ask()
    after = time.time()
    if theirs is None:
        return
    # Their answer was true at some time between our two looks.
    apart = max(before - theirs, theirs - after, 0.0)
    if apart > APART:
        way = "behind" if theirs < before else "before"
        place.warn(
            "clock",
            f"Its clock is {apart:,.1f} s {way} that of this machine.",
            "Lags, ages, times in rows, and what expires are wrong by as much, and logs can't be compared. "
            "The order of changes does not depend on it.",
            "Let NTP set the clocks of all machines: see timedatectl there.",
        )
