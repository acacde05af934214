"""All benchmarks, one after the other: ``python -m bench [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench import beside_rgsync, capture, drain, lag, memory, staleness, through
from bench.results import Row, show


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, with more noise")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, list[Row]] = {}
    for benchmark in (capture, drain, lag, staleness, through, memory, beside_rgsync):
        figures[benchmark.TITLE] = benchmark.run(options.quick)
        show(benchmark.TITLE, figures[benchmark.TITLE])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
