"""All benchmarks, one after the other: ``python -m bench [--full] [--save] [--only NAME]…``.

Some minutes unless ``--full`` is given. ``--save`` keeps the figures and writes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

from bench import (
    beside_rgsync,
    capture,
    cost,
    drain,
    growth,
    lag,
    memory,
    page,
    staleness,
    through,
)
from bench.results import Row, save, show

BENCHMARKS: dict[str, ModuleType] = {
    "capture": capture,
    "drain": drain,
    "lag": lag,
    "staleness": staleness,
    "through": through,
    "growth": growth,
    "cost": cost,
    "memory": memory,
    "beside_rgsync": beside_rgsync,
}


def main() -> None:
    """Run them, or those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--full", action="store_true", help="long runs, with less noise")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="just this one; again for more")
    parser.add_argument("--json", type=Path, help="write the bare figures to this file")
    parser.add_argument("--save", action="store_true", help="keep the figures and write docs/benchmarks.md")
    options = parser.parse_args()
    figures: dict[str, list[Row]] = {}
    for name in options.only or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        rows = figures[benchmark.TITLE] = benchmark.run(not options.full)
        show(benchmark.TITLE, rows)
        if options.save:
            save(name, benchmark.TITLE, rows, getattr(benchmark, "PLOT", None), not options.full)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    if options.save:
        page.main()


if __name__ == "__main__":
    main()
