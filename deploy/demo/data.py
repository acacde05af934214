"""The demo's table, its functions file, its writes, its report, and the comparison at the end."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import redis
import sqlalchemy
from sqlalchemy import Column, Date, Integer, MetaData, Numeric, String, Table

TABLE = Table(
    "gearsync_demo_orders",
    MetaData(),
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("customer", String(40)),
    Column("country", String(2)),
    Column("items", Integer),
    Column("amount", Numeric(10, 2)),
    Column("placed", Date),
)

FUNCTIONS = '''\
"""What goes from Redis to SQL."""

from connectors import Target
from gears import WriteBehind

reporting = Target("env:REPORTING_DB_URL", name="reporting")

WriteBehind(
    keys="order:{order_id}",
    table="gearsync_demo_orders",
    columns=["customer", "country", "items", "amount", "placed"],
    target=reporting,
    name="orders",
)
'''

REPORT = """\
SELECT country, COUNT(*) AS orders, SUM(items) AS items, SUM(amount) AS revenue
FROM gearsync_demo_orders
GROUP BY country ORDER BY revenue DESC"""

#: How many hashes one round trip writes.
PIPELINE = 50

_CUSTOMERS = ("Ada", "Grace", "Édith", "Łukasz", "Søren", "Zoë", "小林", "Noor")
_COUNTRIES = ("DE", "FR", "IN", "JP", "NL", "PL", "US")
_FIRST_DAY = datetime.date(2026, 1, 1)


def write(client: redis.Redis, keys: int, advance: Callable[[int], None]) -> int:
    """Write ``keys`` hashes, change every tenth and delete every hundredth; return the number of writes.

    Plain commands, sent some at a time; ``advance`` gets the number of hashes each time.
    """
    source = random.Random(7)  # noqa: S311 (the same hashes each time)
    writes = 0
    for first in range(1, keys + 1, PIPELINE):
        numbers = range(first, min(first + PIPELINE, keys + 1))
        with client.pipeline(transaction=False) as pipeline:
            for number in numbers:
                key = f"order:{number}"
                pipeline.hset(key, mapping=_order(source))
                if number % 10 == 0:
                    pipeline.hincrby(key, "items", 1)
                if number % 100 == 0:
                    pipeline.delete(key)
            writes += len(pipeline.execute())
        advance(len(numbers))
    return writes


def differences(client: redis.Redis, connection: sqlalchemy.Connection) -> tuple[int, list[str]]:
    """Compare every hash with its row: the number of hashes, and one sentence for each difference."""
    rows = {
        row.order_id: {name: value for name, value in row._mapping.items() if name != "order_id"}
        for row in connection.execute(sqlalchemy.select(TABLE))
    }
    found = []
    count = 0
    for key, fields in _hashes(client):
        count += 1
        number = int(key.partition(b":")[2])
        expected = _as_row(fields)
        row = rows.pop(number, None)
        if row is None:
            found.append(f"order:{number} is in Redis and not in SQL.")
        elif row != expected:
            found.append(f"order:{number} is {expected} in Redis and {row} in SQL.")
    found += [f"row {number} is in SQL, and there is no order:{number} in Redis." for number in rows]
    return count, found


def _order(source: random.Random) -> dict[Any, Any]:
    return {
        "customer": source.choice(_CUSTOMERS),
        "country": source.choice(_COUNTRIES),
        "items": source.randint(1, 9),
        "amount": f"{source.randint(100, 99999) / 100:.2f}",
        "placed": (_FIRST_DAY + datetime.timedelta(days=source.randrange(300))).isoformat(),
    }


def _hashes(client: redis.Redis) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    batch: list[bytes] = []
    for key in client.scan_iter(match="order:*", count=1000):
        batch.append(key)
        if len(batch) == 1000:
            yield from _read(client, batch)
            batch = []
    yield from _read(client, batch)


def _read(client: redis.Redis, keys: list[bytes]) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        yield from zip(keys, pipeline.execute())


def _as_row(fields: dict[bytes, bytes]) -> dict[str, Any]:
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return {
        "customer": text["customer"],
        "country": text["country"],
        "items": int(text["items"]),
        "amount": Decimal(text["amount"]),
        "placed": datetime.date.fromisoformat(text["placed"]),
    }
