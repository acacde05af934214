"""Fuzzing for as long as is asked for: ``python -m tests.fuzz [MINUTES [SEED]]``, CPU minutes of each part.

The parsers of the module (C), the decoders (Python), and all commands of the module on a server of its own.
Exit code 1: something was found, and is said.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, settings

from tests.fuzz import decoders, parsers
from tests.integration.module import fuzz
from tests.integration.module.driving import connect, module_server

ROUND = 2000
"""Examples of one property before the next one's turn."""


def _decode(cpu_seconds: float, first_seed: int) -> int:
    """Try the decoders; return with how many examples. Raises what a property finds."""
    dice, examples = random.Random(first_seed), 0
    begun = time.process_time()
    while time.process_time() - begun < cpu_seconds:
        for each in decoders.PROPERTIES:
            options = settings(
                max_examples=ROUND, database=None, deadline=None, suppress_health_check=list(HealthCheck)
            )
            each.check(options, dice.randrange(2**32))
            examples += ROUND
    return examples


def main(minutes: float, first_seed: int) -> None:
    """Run all three."""
    seconds = minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="gearsync-fuzz-"))
    fuzzer = parsers.build(folder)
    inputs = folder / "inputs"
    inputs.mkdir()
    parsers.first_inputs(inputs)
    print(f"parsers of the module ({fuzzer.name}), in {folder}", flush=True)
    print("  " + parsers.run(fuzzer, inputs, seconds, first_seed).strip().rpartition("\n")[2], flush=True)
    print("decoders", flush=True)
    print(f"  {_decode(seconds, first_seed):,} examples", flush=True)
    print("commands of the module", flush=True)
    with module_server() as server, connect(server) as client:
        print(f"  {fuzz.run(client, first_seed, seconds=seconds)}", flush=True)


if __name__ == "__main__":
    try:
        main(float((sys.argv[1:] or ["10"])[0]), int((sys.argv[2:] or ["1"])[0]))
    except parsers.Found as found:
        sys.exit(str(found))
