"""What a change takes in Redis while it waits."""

from __future__ import annotations

from typing import Any

from bench import systems
from bench.results import Row, main
from bench.schemas import Schema

TITLE = "Memory: what one waiting change takes in Redis"


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def image_bytes(schema: Schema, keys: int) -> float:
    """Return how many bytes the values of an image have on average."""
    some = range(0, keys, max(1, keys // 1000))
    return sum(len(str(value)) for number in some for value in schema.image(number).values()) / len(some)


def _one(fields: int, changes: int) -> Row:
    with systems.redis("--appendonly", "no") as server, server.client() as client:
        systems.capture_only(server, fields)
        image = {f"field{number}": f"value{number}" for number in range(fields)}
        client.hset("person:0", mapping=image)
        before = _used(client)
        pipe = client.pipeline(transaction=False)
        for number in range(changes):
            # Always the same few keys: what grows is the lane alone.
            pipe.hset(f"person:{number % 10}", mapping=image)
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()
        grown = _used(client) - before
        estimate = int(systems.status(server)["backlog"]["bytes"])
    payload = sum(len(name) + len(value) for name, value in image.items())
    return {
        "fields": fields,
        "changes": changes,
        "image bytes": payload,
        "bytes a change": round(grown / changes, 1),
        "module's estimate": round(estimate / changes, 1),
    }


def run(quick: bool) -> list[Row]:
    """Measure hashes of 3 and 20 fields."""
    return [_one(fields, 20_000 if quick else 100_000) for fields in (3, 20)]


if __name__ == "__main__":
    main("memory", TITLE, run)
