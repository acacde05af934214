"""The process that reads one target's rows, for keys that are not in Redis (reads.py).

Not the one that writes (child.py), where a read would wait for a batch.
"""

from __future__ import annotations

from typing import IO, Any

import connectors
from connectors import Connector, ConnectorError, Unavailable
from gears.applying.images import RowReader
from gears.declaring.deployment import Deployment
from gears.redisgears import frames


class Rows:
    """Reads rows of the deployment's read-through functions, over one connector."""

    def __init__(self, deployment: Deployment, target: str) -> None:
        self._target = deployment.targets[target]
        self._functions = {each.name: each for each in deployment.reading}
        self._connector: Connector | None = None
        self._readers: dict[str, RowReader] = {}

    def read(self, name: str, keys: list[bytes]) -> tuple[str, list[Any]]:
        """Return why the rows can't be read, empty if they are; of each row its fields and values, flat."""
        try:
            try:
                images = self._reader(name).read(keys)
            except Unavailable:
                # Its connections may be of a database that was restarted since.
                self._close()
                images = self._reader(name).read(keys)
        except Exception as error:
            self._close()
            said = str(error) if isinstance(error, ConnectorError) else f"{type(error).__name__}: {error}"
            return said, []
        return "", [_flat(images[key]) for key in keys]

    def _reader(self, name: str) -> RowReader:
        if self._connector is None:
            self._connector = connectors.connect(self._target.resolve(), self._target.schema)
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = RowReader(self._functions[name], self._connector)
        return reader

    def _close(self) -> None:
        """Forget the connection and the tables, which may have changed."""
        self._readers.clear()
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.close()


def _flat(image: dict[bytes, bytes] | None) -> list[bytes] | None:
    return None if image is None else [part for pair in image.items() for part in pair]


def main(requests: IO[bytes]) -> None:
    """Be that process: first comes the deployment, then request after request."""
    payload, target = frames.receive(requests)
    answers = frames.answers()
    rows = Rows(Deployment.from_payload(payload), target)
    for _, wanted in frames.each(requests):
        frames.send(answers, "rows", [rows.read(name, keys) for name, keys in wanted])
