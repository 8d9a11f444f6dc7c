"""Serve: the page on a port of this machine, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from conf.errors import OperatorError
from conf.settings import Settings
from dashboards.cards import cards
from dashboards.connection import BACKLOG, Connection, QuietLoopErrors, raise_file_limit
from dashboards.page import Page
from dashboards.reader import Reader, reader_dsn


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn's own handling ends with a killed process instead of an exit code."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OperatorError for a taken port and a host of elsewhere."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OperatorError(f"cannot listen on {host} port {port}: {reason}; try another --port") from None
    listening.setblocking(False)
    return listening


def serve(settings: Settings, host: str, listening: socket.socket, ready: Callable[[str], None]) -> signal.Signals:
    """Serve until a signal, and return it; `ready` gets the URL once the page answers. Raises CardError."""
    page = Page(cards(), settings, Reader(reader_dsn, listen=True), Reader(reader_dsn))
    local = host in ("127.0.0.1", "localhost", "::1")
    application = page.application(["127.0.0.1", "localhost", "[::1]"] if local else ["*"])
    config = uvicorn.Config(
        application,
        http=Connection,
        backlog=BACKLOG,
        log_level="error",  # its warnings are of requests that strangers garbled, as many as they like
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=3,
        lifespan="on",
    )
    raise_file_limit()
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    return asyncio.run(_until_signal(_Server(config), page, listening, lambda: ready(url)))


async def _until_signal(
    server: uvicorn.Server, page: Page, listening: socket.socket, ready: Callable[[], None]
) -> signal.Signals:
    loop, received = asyncio.get_running_loop(), [signal.SIGTERM]
    loop.set_exception_handler(QuietLoopErrors())

    def stop(number: signal.Signals) -> None:
        received[0] = number
        page.stop()
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await serving
    return received[0]
