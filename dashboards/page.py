"""Page: the live page as a web application. It serves the files in `static/`, and answers with SSE and JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conf.errors import UnavailableError
from conf.segments import segments
from conf.settings import Settings
from dashboards.cards import Card
from dashboards.live import Live
from dashboards.reader import Reader, RefusedError
from sql import statement

STATIC = Path(__file__).with_name("static")
_HEADERS = {
    # Nothing but our own files, so that the page works offline and a wrong value in the mart cannot load anything.
    b"content-security-policy": b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    b"cache-control": b"no-cache",  # ask each time whether the file is still the same: an update is seen at once
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
_CUSTOMER_COLUMNS = [
    "customer_id",
    "customer_segment",
    "recency",
    "frequency",
    "monetary",
    "last_purchase",
    "r",
    "f",
    "m",
    "created_at",
]
_MOST_CODES = 50


class Page:
    """The application and what its requests share. `stopping` ends the open event streams."""

    def __init__(self, cards: list[Card], settings: Settings, live: Reader, questions: Reader) -> None:
        self._cards, self._settings, self._questions = cards, settings, questions
        self._live = Live(live, cards, self._wake)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Condition()
        self.stopping = False

    def application(self, hosts: list[str]) -> Starlette:
        """The ASGI application; `hosts`: the names that it answers to (a browser tricked into calling it by
        another gets nothing)."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/api/page", self._describe),
                Route("/api/events", self._events),
                Route("/api/customer/{customer_id:path}", self._customer),
                Route("/api/products", self._products),
                Route("/api/recommend", self._recommend),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[
                Middleware(_Headers),
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                Middleware(_Readable),
            ],
            exception_handlers={UnavailableError: _unreachable, RefusedError: _refused},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._live.start()
        yield
        await run_in_threadpool(self._live.stop)
        self._questions.close()

    def stop(self) -> None:
        """End the open event streams; call it in the event loop."""
        self.stopping = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._notify(), self._loop)

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _index(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _describe(self, _request: Request) -> Response:
        """What the page is made of: the cards (without their SQL), the segments in order, the currency, the zone."""
        return JSONResponse(
            {
                "currency": self._settings.currency,
                "time_zone": self._settings.shop_time_zone,  # until a job has described the shop
                "segments": [segment.name for segment in segments()],
                "cards": [
                    {
                        "name": card.name,
                        "title": card.title,
                        "chart": card.chart,
                        "group": card.group,
                        "description": card.description,
                        "refresh_seconds": card.refresh_seconds,
                        "columns": [{"name": n, "type": t, "unit": card.units.get(n)} for n, t in card.columns],
                    }
                    for card in self._cards
                ],
            }
        )

    async def _events(self, request: Request) -> Response:
        """Server-sent events: the newest answer of each card and the status at once, then what changes."""
        if request.method == "HEAD":  # has its answer with the headers: no viewer
            return Response(media_type="text/event-stream")
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _stream(self) -> AsyncIterator[str]:
        self._live.enter()
        try:
            version = 0
            yield "retry: 1000\n\n"
            while not self.stopping:
                version, events = self._live.since(version)
                if events:
                    yield f"data: [{','.join(events)}]\n\n"
                async with self._news:
                    while not self.stopping and self._live.version == version:
                        await self._news.wait()
        finally:
            self._live.leave()

    async def _customer(self, request: Request) -> Response:
        """A customer: figures, scores with the way to the next quintile, newest invoices, moves between segments. 404
        for one that the mart does not know."""
        return await run_in_threadpool(self._read_customer, request.path_params["customer_id"])

    def _read_customer(self, customer_id: str) -> Response:
        by_id = {"customer_id": customer_id}
        found = self._questions.records(statement("dashboards/customer"), by_id, _CUSTOMER_COLUMNS)
        if not found:
            return JSONResponse({"error": f"No purchases found for {customer_id}"}, 404)
        return JSONResponse(
            {
                "customer": found[0],
                "scores": self._questions.rows(statement("dashboards/customer_scores"), by_id),
                "invoices": self._questions.rows(statement("dashboards/customer_invoices"), by_id),
                "moves": self._questions.rows(statement("dashboards/customer_moves"), by_id),
            }
        )

    async def _products(self, _request: Request) -> Response:
        """Products that a basket can begin with: [stock code, name], those in most baskets first."""
        return JSONResponse(await run_in_threadpool(self._questions.rows, statement("dashboards/products")))

    async def _recommend(self, request: Request) -> Response:
        """What goes with the stock codes `code` (repeated): [stock code, name, because, confidence, lift, support]."""
        codes = list(dict.fromkeys(filter(None, (c.strip() for c in request.query_params.getlist("code")))))
        if not codes or len(codes) > _MOST_CODES:
            return JSONResponse({"error": f"Give 1 to {_MOST_CODES} stock codes."}, 400)
        asked = {"stock_codes": codes, "n": 5}
        return JSONResponse(await run_in_threadpool(self._questions.rows, statement("rules/recommend"), asked))


async def _unreachable(_request: Request, error: Exception) -> Response:
    """A message for viewers of the page; the driver's own message is for whoever must find the cause."""
    return JSONResponse({"error": "PostgreSQL is unreachable", "detail": str(error)}, 503)


async def _refused(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 500)


class _Readable:
    """Answers 400 to a URL that is not text: neither the file system nor PostgreSQL accepts a NUL or bytes that are not
    UTF-8."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (_is_text(scope["raw_path"]) and _is_text(scope["query_string"])):
            refused = JSONResponse({"error": "The address is not valid text: it holds a NUL, or is not UTF-8."}, 400)
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_text(encoded: bytes) -> bool:
    try:
        return "\0" not in unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return False


class _Headers:
    """Adds the security headers; plain ASGI, because a wrapped response would buffer the event stream."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = dict(message.get("headers", []))
                message["headers"] = [*own.items(), *((k, v) for k, v in _HEADERS.items() if k not in own)]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
