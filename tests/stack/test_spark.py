"""What is asked of a Spark master that is starting: its web server answers 404 before it has its pages."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stack.spark import Cluster

WORKERS = {"workers": [{"state": "ALIVE"}, {"state": "DEAD"}, {"state": "ALIVE"}]}


@pytest.fixture
def master():
    """A server that has no pages yet, then half of one, then its answer."""
    answers = [(404, b"<html>"), (200, b"<html>"), (200, json.dumps(WORKERS).encode())]

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_master_without_pages_has_no_worker_yet(master):
    cluster = Cluster("spark://127.0.0.1:7077", master, Path())
    assert [cluster.alive() for _ in range(3)] == [0, 0, 2]


def test_a_master_that_is_gone_has_no_worker():
    assert Cluster("spark://127.0.0.1:7077", "http://127.0.0.1:1", Path()).alive() == 0
