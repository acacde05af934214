"""Names of environment variables that hold the URLs of databases, and what may be shown of a URL."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL

_SECRETS = re.compile("pass|secret|token", re.IGNORECASE)


def variable_of(database: str) -> str:
    """Return the name of a variable for the URL of a database, by its name or the path of its file."""
    stem = database.rpartition("/")[2].split(".")[0]
    words = re.sub("[^A-Z0-9]+", "_", stem.upper()).strip("_") or "SQL"
    words = f"DB_{words}" if words[0].isdigit() else words
    return f"{words}_URL" if words.endswith("DB") else f"{words}_DB_URL"


def masked(url: URL) -> str:
    """Return the text of a URL with *** for each secret."""
    query = {name: "***" if _SECRETS.search(name) else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")
