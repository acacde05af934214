"""How long after HSET was acknowledged its row is committed, at a steady rate."""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

from bench import systems
from bench.results import Row, main, quantile
from tests.servers import RedisServer, ServerError

TITLE = "Lag: from the acknowledged HSET to the row that another session sees in SQL"
RATES = (500, 2500, 10_000)


def _write(server: RedisServer, rate: int, seconds: float, acknowledged: dict[int, float]) -> None:
    """Write ``rate`` hashes a second in ticks of 5 ms; remember when each was acknowledged."""
    begin = time.perf_counter()
    number = 0
    with server.client() as client:
        while (elapsed := time.perf_counter() - begin) < seconds:
            pipe = client.pipeline(transaction=False)
            first = number
            while number < elapsed * rate:
                pipe.hset(f"person:{number}", mapping=systems.image(number))
                number += 1
            if number > first:
                pipe.execute()
                acknowledged[number - 1] = time.perf_counter()
            time.sleep(0.005)


def _lags(server: RedisServer, url: str, rate: int, seconds: float) -> list[float]:
    """Return the lags in ms of the last hash of each tick, as a polling reader sees them."""
    acknowledged: dict[int, float] = {}
    lags: list[float] = []
    seen: set[int] = set()
    writer = threading.Thread(target=_write, args=(server, rate, seconds, acknowledged))
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        writer.start()
        while writer.is_alive() or len(seen) < len(acknowledged):
            waiting = [number for number in list(acknowledged) if number not in seen][:200]
            if not waiting:
                time.sleep(0.001)
                continue
            statement = sa.text("SELECT person_id FROM persons WHERE person_id IN :ids")
            bound = statement.bindparams(sa.bindparam("ids", [str(each) for each in waiting], expanding=True))
            found = [int(row[0]) for row in connection.execute(bound)]
            now = time.perf_counter()
            lags += [(now - acknowledged[number]) * 1000 for number in found]
            seen.update(found)
    writer.join()
    engine.dispose()
    return lags


def _one(kind: str, rate: int, quick: bool) -> Row:
    with systems.database(kind) as url, systems.redis("--appendonly", "no") as server:
        systems.deploy(server, url)
        with systems.worker(server, url):
            systems.fill(server, 100)
            systems.wait_empty(server)
            lags = _lags(server, url, rate, 3 if quick else 10)
    return {
        "database": kind,
        "HSET/s": rate,
        "p50 ms": round(quantile(lags, 0.5), 1),
        "p99 ms": round(quantile(lags, 0.99), 1),
        "samples": len(lags),
    }


def run(quick: bool) -> list[Row]:
    """Measure each database that is here, at each rate."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb", "sqlite"):
        try:
            rows += [_one(kind, rate, quick) for rate in RATES]
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main(TITLE, run)
