"""A real S3 server of the test's own (moto's), and a proxy before it that can be unavailable, refuse, or lose an
answer."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

BUCKET = "lakes"
# No secret of anything; the tests look for it in what the commands print.
SECRET = "hidden-word"
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


def environment(endpoint: str) -> dict[str, str]:
    """What an operator sets for a server of their own, without TLS."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "mart",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


@contextmanager
def s3_server() -> Iterator[int]:
    """moto's server in a process of its own, with one empty bucket; yields its port. What it holds is in its memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="mart",
            aws_secret_access_key=SECRET,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                break
            except Exception:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


class Proxy:
    """Passes requests on to the server, unless `rule` says otherwise.

    A rule takes the method and the path and returns None (pass on), (status, body) to answer itself, or one of the
    words: "hang up" before the server hears of it, "lose the answer" of the server, "overwrite" (pass on without the
    condition that a write is to hold, as a server that does not know it would).
    """

    def __init__(self, server_port: int) -> None:
        self.rule: Callable[[str, str], tuple[int, str] | str | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.requests.append((self.command, self.path))
                said = proxy.rule(self.command, self.path)
                if said == "hang up":
                    self.close_connection = True
                    return
                if isinstance(said, tuple):
                    self._answer(said[0], [("Content-Type", "application/xml")], said[1].encode())
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                if said == "overwrite":
                    headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
                upstream = http.client.HTTPConnection("127.0.0.1", server_port, timeout=60)
                try:
                    upstream.request(self.command, self.path, body, headers)
                    answer = upstream.getresponse()
                    content = answer.read()
                finally:
                    upstream.close()
                if said == "lose the answer":
                    self.close_connection = True
                    return
                kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in _HOP_BY_HOP]
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                self._answer(answer.status, kept, content, length)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

            def _answer(
                self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None
            ) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    with suppress(ConnectionError):
                        self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def refused(code: str, message: str = "It was refused.") -> str:
    """S3's answer to a request that it refuses, with the fields that hold what must not be shown."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        f"<AWSAccessKeyId>mart</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign><RequestId>1</RequestId></Error>"
    )
