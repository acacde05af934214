"""Fill Redis from a table, page by page in the order of the primary key: it can go on where it ended."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from connectors import ConnectorError
from deploy.hosts.base import Row
from deploy.loading.portions import Size
from deploy.loading.putting import Marks, Putter
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards
from gears.applying.deadletters import readable
from gears.applying.images import RowReader
from gears.declaring.errors import KeyPartError

PAGE = 1000
"""The most rows of one SELECT, and of one command to Redis."""
NAMED = 5
"""How many of the rows without a key are named."""


@dataclass
class Counts:
    """Rows so far: ``read``; ``set``: new hashes; ``there``: the key was there already; ``waiting``: a change
    of the key waits in a lane; ``gone``: deleted meanwhile; ``empty``: all columns are NULL; ``unkeyed``: the
    template has no key for them. ``named`` are the first of the latter, ``reason`` is the first one's.
    """

    read: int = 0
    set: int = 0
    there: int = 0
    waiting: int = 0
    gone: int = 0
    empty: int = 0
    unkeyed: int = 0
    named: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def document(counts: Counts, finished: bool, rows: int, seconds: float) -> dict[str, Any]:
    """Return the counts for programs; ``rows`` are those of this run, which took so many ``seconds``."""
    return {
        **{name: value for name, value in asdict(counts).items() if name not in ("named", "reason")},
        "unkeyed_rows": counts.named,
        "unkeyed_reason": counts.reason,
        "finished": finished,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / max(seconds, 0.001)),
    }


class Place:
    """Where a load of one function has come to, kept in Redis until it is done.

    A flush takes it along with what was loaded. ``scope`` says what is loaded: another one is another load.
    """

    def __init__(self, deployment: str, function: str, scope: dict[str, Any]) -> None:
        self._key = f"gearsync:{{0}}:load:{deployment}:{function}"
        self._scope = scope

    def read(self, shards: Shards) -> tuple[list[bytes] | None, Counts, bool]:
        """Return the last key of the rows that are loaded, the counts, and whether it is of this load."""
        text = self._command(shards, "GET")
        if text is None:
            return None, Counts(), True
        document = json.loads(text)
        after = [_bytes_of(part) for part in document["after"]]
        return after, Counts(**document["counts"]), document["scope"] == self._scope

    def write(self, shards: Shards, after: Sequence[bytes], counts: Counts) -> None:
        """Note the last key of the rows that are loaded, and the counts. Raises ShardError."""
        document = {
            "scope": self._scope,
            "after": [readable(part) for part in after],
            "counts": asdict(counts),
        }
        self._command(shards, "SET", json.dumps(document))

    def forget(self, shards: Shards) -> None:
        """Forget the load: it is done, or begins anew. Raises ShardError."""
        self._command(shards, "DEL")

    def _command(self, shards: Shards, name: str, *arguments: str) -> Any:
        shard = shards.of_key(self._key.encode())
        with errors_of(shard.address):
            return shards.on_key(shard.client, name, self._key, *arguments)


def _bytes_of(value: Any) -> bytes:
    """Undo ``readable``."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


class Total:
    """How many rows there are, counted in a thread of its own: that takes as long as the database likes."""

    def __init__(self, reader: RowReader, where: str) -> None:
        self.rows: int | None = None
        self.problem = ""
        self._thread = threading.Thread(target=self._count, args=(reader, where), daemon=True)
        self._thread.start()

    def _count(self, reader: RowReader, where: str) -> None:
        try:
            self.rows = reader.count(where)
        except ConnectorError as error:
            self.problem = str(error)


class Pace:
    """Sleeps so that no more than ``rate`` rows a second are loaded; 0: as fast as it goes."""

    def __init__(self, rate: int) -> None:
        self.page = min(PAGE, rate) if rate else PAGE
        self._rate = rate
        self._start = time.monotonic()

    def keep(self, rows: int) -> None:
        """Sleep until ``rows`` since the start are no more than the rate allows."""
        if self._rate:
            time.sleep(max(0.0, self._start + rows / self._rate - time.monotonic()))


class Page(NamedTuple):
    """Rows as ``RowReader.scan`` returns them, read after ``marks``; ``is_last``: no more come."""

    marks: Marks
    rows: list[tuple[tuple[bytes, ...], dict[bytes, bytes]]]
    is_last: bool


class Loading:
    """One run of a load. ``counts`` go on from run to run until it is done."""

    def __init__(self, reader: RowReader, putter: Putter, place: Place, where: str) -> None:
        self.counts = Counts()
        self._reader = reader
        self._putter = putter
        self._place = place
        self._where = where
        self._names = reader.key_columns
        self._size = Size(PAGE)

    def run(
        self,
        after: list[bytes] | None,
        counts: Counts,
        limit: int | None,
        rate: int,
        tell: Callable[[Counts], None],
    ) -> bool:
        """Load the rows behind ``after``, at most ``limit``; return whether those were all there are.

        After each page ``tell`` gets the counts. Raises ShardError and ConnectorError; all pages before are
        remembered then.
        """
        self.counts = counts
        pace = Pace(rate)
        here = 0
        for page in self._pages(after, pace.page, limit):
            if page.rows:
                self._put(page)
                self._place.write(self._putter.shards, page.rows[-1][0], counts)
                here += len(page.rows)
                tell(counts)
            if page.is_last:
                self._place.forget(self._putter.shards)
                return True
            pace.keep(here)
        return False

    def _pages(self, after: Sequence[bytes] | None, size: int, limit: int | None) -> Iterator[Page]:
        """Yield the pages behind ``after``; the next one is read while Redis gets this one."""
        left = sys.maxsize if limit is None else limit
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._read, after, min(size, self._size.keys, left))
            while left > 0:
                page = coming.result()
                left = 0 if page.is_last else left - len(page.rows)
                if left > 0:
                    most = min(size, self._size.keys, left)
                    coming = ahead.submit(self._read, page.rows[-1][0], most)
                yield page

    def _read(self, after: Sequence[bytes] | None, most: int) -> Page:
        marks = self._putter.mark()
        rows = self._reader.scan(after, self._where, most)
        self._size.learn([list(fields.values()) for _, fields in rows])
        return Page(marks, rows, is_last=len(rows) < most)

    def _put(self, page: Page) -> None:
        counts = self.counts
        images: list[Row] = []
        for values, fields in page.rows:
            try:
                key = self._reader.key_of(values)
            except KeyPartError as error:
                self._name(values, error)
                continue
            if fields:
                images.append((key, fields))
            else:
                counts.empty += 1
        outcome = self._putter.put(images, page.marks)
        counts.read += len(page.rows)
        counts.set += outcome.set
        counts.waiting += outcome.waiting
        counts.gone += outcome.gone
        counts.there += len(images) - outcome.set - outcome.waiting - outcome.gone

    def _name(self, values: Sequence[bytes], error: KeyPartError) -> None:
        self.counts.unkeyed += 1
        if len(self.counts.named) < NAMED:
            self.counts.named.append(dict(zip(self._names, map(readable, values))))
            self.counts.reason = self.counts.reason or str(error)
