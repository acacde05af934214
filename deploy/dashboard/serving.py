"""The web server of the page: an address to listen on, and a process that serves until it is told to end."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from deploy.dashboard.board import Board
from deploy.output import CommandError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0: one that is free. Raises CommandError."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise CommandError(
            f"can't listen on {host}:{port}: {error.strerror}.",
            "give another address or port: --listen 127.0.0.1:8401.",
        ) from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Return where a browser on this machine finds the page."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    listening: socket.socket,
    application: Callable[[Board], ASGIApp],
    url: str,
    interval: float,
    ready: Callable[[], None],
) -> None:
    """Serve the page until SIGINT or SIGTERM; ``ready`` is called before.

    ``url`` and ``interval`` are the board's, which ``application`` is made over.
    """
    over = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: over.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with Board(url, interval, over.set) as board:
            server = uvicorn.Server(_config(application(board)))
            thread = threading.Thread(target=_run, args=(server, listening, over), daemon=True)
            thread.start()
            ready()
            over.wait()
            server.should_exit = True
            thread.join()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(server: uvicorn.Server, listening: socket.socket, over: threading.Event) -> None:
    # Not in the main thread, so that uvicorn leaves the signals to us.
    try:
        server.run(sockets=[listening])
    finally:
        over.set()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=3,
    )
