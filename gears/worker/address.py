"""The URL of Redis for a worker, or where it is to be found.

Who may see the module's arguments (MODULE LIST, the list of processes) sees no password then.
"""

from __future__ import annotations

import os


class AddressError(ValueError):
    """A reference leads to no URL. Its text names the variable or the file."""


def resolve(reference: str) -> str:
    """Return the URL itself: of ``env:NAME``, a variable of this process, or of ``file:PATH``, a file that
    holds it and nothing else. Raises AddressError.
    """
    if reference.startswith("env:"):
        name = reference[len("env:") :]
        text = os.environ.get(name, "")
        if not text.strip():
            raise AddressError(
                f"the environment variable {name}, which should hold the URL of Redis, is not set"
            )
        return text.strip()
    if reference.startswith("file:"):
        return _read(reference[len("file:") :])
    return reference


def _read(path: str) -> str:
    try:
        # Some editors put a mark before UTF-8.
        with open(path, encoding="utf-8-sig") as file:
            return file.read().strip()
    except OSError as error:
        raise AddressError(
            f"the file {path}, which should hold the URL of Redis, can't be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError:
        # The error would carry the file's content along.
        raise AddressError(
            f"the file {path}, which should hold the URL of Redis, is not UTF-8 text"
        ) from None
