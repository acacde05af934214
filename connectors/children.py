"""Checksums of all rows of some keys, where a key of Redis is many rows: ordered by their bytes alone."""

from __future__ import annotations

from typing import Callable, Sequence

from connectors.checksums import Digest, Form, Images, Keys, texts_of

Remote = Callable[[Keys], str]


class ChildChecksums:
    """The checksums of some columns of the rows of one table. ``remote`` returns that of the rows of keys of
    Redis, as the database makes it, by its function ``digest``. It raises Unavailable, SchemaMismatch or
    Refused.
    """

    def __init__(self, forms: Sequence[Form], remote: Remote, digest: Digest) -> None:
        self._forms = list(forms)
        self._digest = digest
        self.remote = remote

    def local(self, rows: Images) -> str | None:
        """Return the checksum of these rows, in any order; None: they have none."""
        made = texts_of(self._forms, rows)
        if made is None:
            return None
        text = b"".join(sorted(map(b"".join, made)))
        return self._digest(text)
