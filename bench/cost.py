"""What a change costs: bytes in the stream, the worker's CPU and memory, on each database."""

from __future__ import annotations

from bench import memory, systems
from bench.results import Row, main
from bench.schemas import PERSON, WIDE, Schema
from tests.servers import ServerError

TITLE = "Cost: what a change takes in the stream, of the worker's CPU and of its memory"


def _one(kind: str, schema: Schema, quick: bool) -> Row:
    keys = (30_000 if quick else 200_000) // (1 if schema is PERSON else 3)
    with systems.database(kind, schema) as url, systems.redis("--appendonly", "no") as server:
        systems.deploy(server, url, functions=systems.functions_of(schema))
        used: list[int] = []

        def fill() -> None:
            systems.fill(server, keys, 0, schema)
            with server.client() as client:
                stream = next(client.scan_iter("gearsync:*:lane:*", count=10_000))
                used.append(int(client.memory_usage(stream, samples=0) or 0))

        spent = systems.drain(server, url, fill)
    return {
        "database": kind,
        "columns": len(schema.columns),
        "image bytes": round(memory.image_bytes(schema, keys)),
        "bytes in the stream": round(used[0] / keys, 1),
        "CPU s a million": round(spent.cpu, 1),
        "worker MB": round(spent.megabytes),
    }


def run(quick: bool) -> list[Row]:
    """Measure each database that is here."""
    rows: list[Row] = []
    for kind in ("postgres", "mariadb", "sqlite"):
        try:
            rows += [_one(kind, schema, quick) for schema in (PERSON, WIDE)]
        except ServerError as error:
            print(f"{kind} is left out: {error}")
    return rows


if __name__ == "__main__":
    main("cost", TITLE, run)
