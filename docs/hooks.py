"""What MkDocs does with a page before it makes it: a pipe in a table's code is written for GitHub."""

from __future__ import annotations

import re

_CODE = re.compile(r"`[^`\n]+`")


def on_page_markdown(markdown: str, **_: object) -> str:
    r"""Return the page with ``|`` for ``\|`` in code: GitHub needs that in tables, here it would be seen."""
    rows = [
        _CODE.sub(lambda found: found[0].replace("\\|", "|"), line) if line.startswith("| ") else line
        for line in markdown.split("\n")
    ]
    return "\n".join(rows)
