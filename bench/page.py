"""Puts the figures that are kept in docs/figures into docs/benchmarks.md: ``python -m bench.page``.

Between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->`` stands what docs/figures/NAME.json holds: a
table, and a plot where the benchmark has one. A name without such a file keeps what stands there.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from bench import plots, results
from bench.plots import Plot

PAGE = results.FOLDER.parent / "benchmarks.md"
_PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def written(page: str, folder: Path) -> str:
    """Return the page with the figures of a folder."""

    def filled(found: re.Match[str]) -> str:
        kept = folder / f"{found.group(2)}.json"
        if not kept.exists():
            return found.group(0)
        return found.group(1) + _section(found.group(2), json.loads(kept.read_text())) + found.group(3)

    return _PLACE.sub(filled, page)


def _section(name: str, document: dict[str, Any]) -> str:
    rows: list[dict[str, Any]] = document["rows"]
    if not rows:
        return "Nothing was measured.\n"
    names = list(rows[0])
    numeric = [isinstance(rows[0][each], (int, float)) for each in names]
    lines = [
        _line(names),
        _line(["---:" if right else "---" for right in numeric]),
        *(_line([_cell(row[each]) for each in names]) for row in rows),
    ]
    plot = f"\n![{document['title']}](figures/{name}.svg)\n" if document["plot"] else ""
    short = ", a quick run" if document["quick"] else ""
    return "\n".join(lines) + f"\n{plot}\nMeasured on {document['day']}: {document['machine']}{short}.\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    return results.text(value).replace("|", "\\|")


def main() -> None:
    """Draw the plots and write the page."""
    if plots.available():
        for kept in sorted(results.FOLDER.glob("*.json")):
            document = json.loads(kept.read_text())
            if document["plot"] and document["rows"]:
                plots.draw(Plot(**document["plot"]), document["rows"], kept.with_suffix(".svg"))
    else:
        print("no plots: they need matplotlib; pip install 'gearsync[bench]'", file=sys.stderr)
    PAGE.write_text(written(PAGE.read_text(), results.FOLDER))
    print(f"{PAGE} has the figures of {results.FOLDER}")


if __name__ == "__main__":
    main()
