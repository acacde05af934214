"""The web application: the page, its figures and letters as JSON, and the two changes it may make."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.dashboard import board
from deploy.dashboard.board import Board
from deploy.dashboard.guard import Changes, Guard, Hosts
from deploy.dashboard.shown import letter_document
from deploy.letters import pages, retry, store
from deploy.letters.pages import Filter, Place
from deploy.letters.store import Letter
from deploy.output import CommandError
from deploy.reaching.shards import Shards

PAGE_SIZE = 25
MAX_PAGE_SIZE = 100
MAX_CHOSEN = 1000
"""How many letters one request may change."""
MAX_BODY = 256 * 1024
ASSETS = {
    "page.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "charts.js": "text/javascript",
    "figures.js": "text/javascript",
    "letters.js": "text/javascript",
    "text.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

Handler = Callable[[Request], Awaitable[Response]]


class Document(JSONResponse):
    """JSON in ASCII alone, so that half a surrogate pair, which stands for a byte, passes too."""

    def render(self, content: Any) -> bytes:
        """Return the content as bytes of ASCII. Raises ValueError for a number that JSON has not."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Refused(Exception):
    """The request can't be served; ``status`` is HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def create(shown: Board, changes: Changes, hosts: Hosts) -> Starlette:
    """Return the application over a board."""
    return Starlette(
        routes=[
            Route("/", _asset("page.html")),
            *(Route(f"/assets/{name}", _asset(name)) for name in ASSETS if name != "page.html"),
            Route("/api/figures", _figures(shown, changes)),
            Route("/api/letters", _letters(shown)),
            Route("/api/letters/retry", _change(shown, changes, _retry), methods=["POST"]),
            Route("/api/letters/drop", _change(shown, changes, _drop), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts), Middleware(GZipMiddleware, minimum_size=2000)],
        exception_handlers={Refused: _refused, CommandError: _failed},
    )


def _asset(name: str) -> Handler:
    content = (resources.files("deploy.dashboard") / "assets" / name).read_bytes()

    async def handler(request: Request) -> Response:
        return Response(content, media_type=ASSETS[name])

    return handler


def _figures(shown: Board, changes: Changes) -> Handler:
    async def handler(request: Request) -> Response:
        try:
            since = float(request.query_params.get("since", "0"))
        except ValueError as error:
            raise Refused(400, "since must be a time in seconds.") from error
        document = board.document(shown.snapshot, since)
        return Document(
            {**document, "now": time.time(), "interval": shown.interval, "changes": changes.allowed}
        )

    return handler


def _letters(shown: Board) -> Handler:
    async def handler(request: Request) -> Response:
        query = request.query_params
        chosen = Filter(query.get("deployment") or None, query.get("function") or None)
        before = _places([query["before"]])[0] if query.get("before") else None
        size = query.get("size", str(PAGE_SIZE))
        # Python refuses to read very many digits.
        if not size.isdecimal() or len(size) > 9 or not 1 <= int(size) <= MAX_PAGE_SIZE:
            raise Refused(400, f"size must be a number from 1 to {MAX_PAGE_SIZE}.")
        shards, statuses = shown.reached()
        page = await run_in_threadpool(pages.page, shards, statuses, chosen, before, int(size))
        older = None if page.older is None else str(page.older)
        return Document({"letters": [letter_document(each) for each in page.letters], "older": older})

    return handler


def _change(
    shown: Board, changes: Changes, work: Callable[[Shards, list[Letter]], dict[str, Any]]
) -> Handler:
    async def handler(request: Request) -> Response:
        refusal = changes.refusal(request.headers)
        if refusal is not None:
            raise Refused(*refusal)
        places = _chosen(await _body(request))
        shards, statuses = shown.reached()

        def run() -> dict[str, Any]:
            return work(shards, pages.find(shards, statuses, places))

        return Document({"asked": len(places), **await run_in_threadpool(run)})

    return handler


def _retry(shards: Shards, chosen: list[Letter]) -> dict[str, Any]:
    tried = retry.retry(shards, chosen)
    return {"done": len(tried.retried), "uncovered": len(tried.uncovered), "left": len(tried.left)}


def _drop(shards: Shards, chosen: list[Letter]) -> dict[str, Any]:
    return {"done": store.drop(shards, chosen), "uncovered": 0, "left": 0}


async def _body(request: Request) -> Any:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise Refused(413, f"The request is longer than {MAX_BODY:,} bytes.")
    try:
        return json.loads(body)
    except ValueError as error:
        raise Refused(400, "The request is no JSON.") from error


def _chosen(body: Any) -> list[Place]:
    named = body.get("letters") if isinstance(body, dict) else None
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise Refused(400, 'The request must be {"letters": ["ID STREAM", …]}.')
    if not 1 <= len(named) <= MAX_CHOSEN:
        raise Refused(400, f"The request must name 1 to {MAX_CHOSEN:,} letters.")
    return _places(list(dict.fromkeys(named)))


def _places(texts: list[str]) -> list[Place]:
    try:
        return [Place.parse(text) for text in texts]
    except ValueError as error:
        raise Refused(400, f"{error}.") from error


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 (for mypy)
    return Document({"error": str(error)}, status_code=error.status)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer when Redis is away, or will not: the page goes on, and asks again."""
    assert isinstance(error, CommandError)  # noqa: S101 (for mypy)
    return Document({"error": board.sentence(error)}, status_code=503)
