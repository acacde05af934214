"""Whether a change costs the same however much there is: keys, mappings, lanes, bytes in a value."""

from __future__ import annotations

import argparse

from bench import systems
from bench.plots import Plot
from bench.results import Row, save, show
from bench.schemas import PERSON, Schema, with_values

TITLE = "Growth: the worker's CPU and memory while keys, mappings, lanes and values grow (SQLite)"
PLOT = Plot("lines", "times the smallest", "CPU µs a change", "what", "CPU µs a change", "xy")
KEYS = (10_000, 100_000, 1_000_000)
MOST_KEYS = 10_000_000
MAPPINGS = (1, 10, 50)
LANES = (1, 4, 16)
VALUE_BYTES = (16, 256, 4096, 65_536)
VALUES_BYTES = 48_000_000
"""Of all values of one case together, or fewer."""


def _case(what: str, size: int, first: int, changes: int, schema: Schema, mappings: int, lanes: int) -> Row:
    with (
        systems.database("sqlite", schema, mappings) as url,
        systems.redis("--appendonly", "no") as server,
    ):
        systems.deploy(server, url, functions=systems.functions_of(schema, mappings, lanes))
        spent = systems.drain(server, url, lambda: systems.fill(server, changes, 0, schema, mappings))
    return {
        "what": what,
        "size": size,
        "times the smallest": size / first,
        "changes": changes,
        "changes/s": round(spent.rate),
        "CPU µs a change": round(spent.cpu, 2),
        "worker MB": round(spent.megabytes),
    }


def run(quick: bool, most_keys: int = 0) -> list[Row]:
    """Measure each dimension; ``most_keys``: more keys than usual."""
    many = 20_000 if quick else 100_000
    keys = [each for each in KEYS if each <= (100_000 if quick else 1_000_000)]
    if most_keys > keys[-1]:
        keys.append(most_keys)
    rows = [_case("keys", size, keys[0], size, PERSON, 1, 1) for size in keys]
    rows += [_case("mappings", size, MAPPINGS[0], many, PERSON, size, 1) for size in MAPPINGS]
    rows += [_case("lanes", size, LANES[0], many, PERSON, 1, size) for size in LANES]
    for size in VALUE_BYTES:
        changes = max(200, min(many, VALUES_BYTES // size))
        rows.append(_case("bytes in a value", size, VALUE_BYTES[0], changes, with_values(size), 1, 1))
    return rows


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--quick", action="store_true", help="a short run, with more noise")
    parser.add_argument("--most", action="store_true", help=f"{MOST_KEYS:,} keys as well: some GB of memory")
    parser.add_argument("--save", action="store_true", help="keep the figures for docs/benchmarks.md")
    options = parser.parse_args()
    rows = run(options.quick, MOST_KEYS if options.most else 0)
    show(TITLE, rows)
    if options.save:
        save("growth", TITLE, rows, PLOT, options.quick)


if __name__ == "__main__":
    main()
