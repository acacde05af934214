"""A TCP proxy on loopback that cuts, delays, stalls and tears connections."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
import time
from types import TracebackType

from typing_extensions import Self

_CHUNK = 65536


class Proxy:
    """Forwards ``port`` to ``target`` of this machine. The faults hold for all connections until ``heal``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._ended = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._open = True
        self._delay = 0.0
        self._tear = 0.0
        self._dice = random.Random()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._flows.set()
        # Wakes the accept().
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._listener.close()
        self.reset()

    # -- Faults ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Break all connections that there are."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _break(pair)

    def cut(self) -> None:
        """Break all connections, and those that come."""
        self._open = False
        self.reset()

    def stall(self) -> None:
        """Keep all connections, and carry nothing."""
        self._flows.clear()

    def delay(self, seconds: float) -> None:
        """Carry each piece so much later."""
        self._delay = seconds

    def tear(self, chance: float, seed: int) -> None:
        """Break a connection at a random byte of a piece, with this chance for each piece."""
        self._dice.seed(seed)
        self._tear = chance

    def heal(self) -> None:
        """End all faults."""
        self._open, self._delay, self._tear = True, 0.0, 0.0
        self._flows.set()

    # -- Carrying ----------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._ended.is_set() or not self._open:
                near.close()
                continue
            threading.Thread(target=self._serve, args=(near,), name="proxied", daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            near.close()
            return
        pair = (near, far)
        for each in pair:
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.add(pair)
        # It dies on its way when the far end is gone.
        with contextlib.suppress(OSError, ValueError):
            self._carry(near, far)
        with self._lock:
            self._pairs.discard(pair)
        near.close()
        far.close()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in selector.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    piece = source.recv(_CHUNK)
                    if not piece or not self._pass(piece, sink):
                        return

    def _pass(self, piece: bytes, sink: socket.socket) -> bool:
        """Carry one piece under the faults of now; False: the connection is torn."""
        self._flows.wait()
        if self._delay:
            time.sleep(self._delay)
        if self._tear and self._dice.random() < self._tear:
            sink.sendall(piece[: self._dice.randrange(len(piece))])
            return False
        sink.sendall(piece)
        return True


def _break(pair: tuple[socket.socket, socket.socket]) -> None:
    for each in pair:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
