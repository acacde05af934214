"""HSET throughput with and without the function: the bare server and the server with the module, in turn."""

from __future__ import annotations

import re
import shutil
import subprocess

from bench import systems
from bench.results import Row, main, median
from tests.servers import RedisServer, ServerError

TITLE = "Capture: HSET with the function, beside the bare server (no worker)"
KEYS = 100_000
_RATE = re.compile(r"([0-9.]+) requests per second")
_P50 = re.compile(r"p50=([0-9.]+) msec")


def measure(server: RedisServer, pairs: list[str], pipeline: int, requests: int) -> tuple[float, float]:
    """Return requests a second and p50 in ms, by redis-benchmark with 50 clients; ``pairs``: the hash."""
    program = shutil.which("redis-benchmark")
    if program is None:
        raise ServerError("no redis-benchmark: apt-get install redis-tools")
    command = [program, "-p", str(server.port), "-c", "50", "-P", str(pipeline), "-n", str(requests)]
    command += ["-r", str(KEYS), "-q", "HSET", "person:__rand_int__", *pairs]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    p50 = _P50.search(text)
    return float(_RATE.findall(text)[-1]), float(p50.group(1)) if p50 else 0.0


def _round(module: bool, fields: int, pipeline: int, requests: int, aof: str) -> tuple[float, float]:
    options = ("--appendonly", "no") if aof == "no" else ("--appendonly", "yes", "--appendfsync", aof)
    with systems.redis(*options, module=module) as server:
        if module:
            systems.capture_only(server, fields)
        pairs = [text for number in range(fields) for text in (f"field{number}", f"value{number}")]
        return measure(server, pairs, pipeline, requests)


def _case(fields: int, pipeline: int, aof: str, quick: bool) -> Row:
    requests = (100_000 if pipeline == 1 else 400_000) // (4 if quick else 1) // (1 if fields < 10 else 3)
    bare, ours = [], []
    for _ in range(2 if quick else 5):
        bare.append(_round(False, fields, pipeline, requests, aof))
        ours.append(_round(True, fields, pipeline, requests, aof))
    bare_rate, our_rate = median([rate for rate, _ in bare]), median([rate for rate, _ in ours])
    return {
        "fields": fields,
        "pipeline": pipeline,
        "AOF": aof,
        "bare/s": round(bare_rate),
        "function/s": round(our_rate),
        "ratio": round(our_rate / bare_rate, 2),
        "bare p50 ms": median([p50 for _, p50 in bare]),
        "function p50 ms": median([p50 for _, p50 in ours]),
    }


def run(quick: bool) -> list[Row]:
    """Measure each case."""
    cases = [
        (3, 1, "no"),
        (3, 16, "no"),
        (3, 1, "everysec"),
        (3, 16, "everysec"),
        (20, 1, "no"),
        (20, 16, "no"),
    ]
    return [_case(*case, quick) for case in cases]


if __name__ == "__main__":
    main(TITLE, run)
