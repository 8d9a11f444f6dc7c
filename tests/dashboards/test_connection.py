"""Strangers at the page's door, real ones: half a request, an answer that nobody reads, any bytes at all."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import time
from contextlib import closing
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dashboards.connection import BACKLOG, READ_SECONDS, REQUEST_SECONDS
from mart.migrate import migrate
from tests.builders.pipeline import new_mart
from tests.builders.served import REFUSED, Page, get, served
from tests.builders.waiting import until

FILES = 200
HALVES = (
    b"",
    b"G",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b",
    b"POST / HTTP/1.1\r\nContent-Length: 9\r\n",
)
ROUTES = (
    "/",
    "/api/page",
    "/api/events",
    "/api/customer/",
    "/api/products",
    "/api/recommend",
    "/static/",
    "/static/page.css",
)
ESCAPES = (
    "%00",
    "%ff",
    "%c3",
    "%ed%a0%80",
    "%f4%90%80%80",
    "%0d%0a",
    "%2e%2e%2f",
    "%",
    "%zz",
    "%25",
    "..",
    "//",
    "\\",
    "%2500",
)


def knock(port: int, sent: bytes) -> socket.socket:
    knocking = socket.create_connection(("127.0.0.1", port), timeout=20)
    knocking.sendall(sent)
    return knocking


def connections(page: Page) -> int:
    return sum(c.status == psutil.CONN_ESTABLISHED for c in psutil.Process(page.process.pid).net_connections("tcp"))


def test_half_requests_keep_nobody_out_and_end_and_the_log_is_short():
    with served(REFUSED) as page, contextlib.ExitStack() as open_sockets:
        url = page.url()
        resource.prlimit(page.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        for number in range(2 * FILES):
            half = HALVES[number % len(HALVES)]
            with contextlib.suppress(ConnectionError):  # one that had to make room
                open_sockets.enter_context(knock(urlsplit(url).port, half))
        assert get(url)[0] == 200
        until(lambda: connections(page) == 0, seconds=REQUEST_SECONDS + 20)
        assert get(url)[0] == 200
        code, errors = page.ended(signal.SIGTERM)
    assert code == 0
    assert len(errors.splitlines()) <= 1  # of some hundred connections for which there was no handle at first


def test_a_drop_now_and_then_does_not_keep_a_half_request_alive():
    with served(REFUSED) as page:
        with knock(urlsplit(page.url()).port, b"GET / HTTP/1.1\r\n") as slow:
            slow.settimeout(0.5)
            until(lambda: hung_up(slow), seconds=REQUEST_SECONDS + 20)
        assert page.ended(signal.SIGTERM) == (0, "")


def hung_up(slow: socket.socket) -> bool:
    """Send one more header; whether the server is gone by then."""
    try:
        slow.sendall(b"X-A: b\r\n")
        return not slow.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.slow
def test_an_answer_that_is_not_read_ends():
    ask = b"GET /static/vendor/echarts.min.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with served(REFUSED) as page:
        url = page.url()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", urlsplit(url).port))
            deaf.sendall(ask * 20)
            with knock(urlsplit(url).port, b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as viewer:
                assert viewer.recv(100).startswith(b"HTTP/1.1 200")
                time.sleep(READ_SECONDS + 1)
                until(lambda: connections(page) == 1, seconds=20)  # the viewer, who reads
                viewer.sendall(b"")
                assert viewer.recv(10_000)
        assert page.ended(signal.SIGTERM) == (0, "")


def test_handles_that_run_out_are_one_line_in_the_log():
    with served(REFUSED) as page, contextlib.ExitStack() as open_sockets:
        url = page.url()
        few = psutil.Process(page.process.pid).num_fds() + 12
        resource.prlimit(page.process.pid, resource.RLIMIT_NOFILE, (few, few))
        for _ in range(BACKLOG):
            open_sockets.enter_context(knock(urlsplit(url).port, b"GET"))
        time.sleep(4)
        open_sockets.close()
        assert get(url + "api/page")[0] == 200
        code, errors = page.ended(signal.SIGTERM)
    assert code == 0
    assert len(errors.splitlines()) == 1, errors
    [line] = errors.splitlines()
    assert "no file handle for another connection (Too many open files" in line


def test_it_takes_the_handles_that_it_may_have():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with served(REFUSED) as page:
            page.url()
            assert psutil.Process(page.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def status(port: int, request: bytes) -> int | None:
    """The status of the answer; None if the server hangs up on what is no HTTP."""
    with contextlib.suppress(ConnectionError), knock(port, request) as asking:
        line = asking.makefile("rb").readline()
        return int(line.split()[1]) if line else None
    return None


@pytest.fixture(scope="module")
def serving(servers):
    with new_mart(servers) as mart:
        with closing(psycopg2.connect(mart.owner_dsn)) as owner:
            migrate(owner)
        with served(mart.reader_dsn) as page:
            yield page, urlsplit(page.url()).port
            assert page.ended(signal.SIGTERM) == (0, "")  # no traceback: nothing failed unforeseen


methods = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "FOO", "get"]
)
text = st.one_of(st.sampled_from(ESCAPES), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
paths = st.builds(lambda route, *more: route + "".join(more), st.sampled_from(ROUTES), text, text)
queries = st.one_of(st.just(""), st.builds("?code={}&{}={}".format, text, text, text))
values = st.one_of(text, st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40))
headers = st.lists(
    st.tuples(
        st.sampled_from(["Host", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Cookie", "Upgrade",
                         "Connection", "Content-Length", "Transfer-Encoding", "Expect", "X-Forwarded-For", "Origin"]),
        values,
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.stack
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=methods, path=paths, query=queries, more=headers)
@example("GET", "/api/customer/%00", "", [])
@example("GET", "/api/customer/a%00b", "", [])
@example("GET", "/api/recommend", "?code=%00", [])
@example("GET", "/static/%00", "", [])
@example("GET", "/static/page.css%00", "", [])
@example("GET", "/api/recommend", "?%00=1", [])
@example("GET", "/api/customer/%ed%a0%80", "", [])
@example("GET", "/api/customer/%ff", "?x=%ff", [])
@example("GET", "/static/" + "a" * 5_000, "", [])
@example("GET", "/api/customer/" + "a" * 60_000, "", [])
@example("GET", "/api/customer/" + "a" * 100_000, "", [])
@example("GET", "/api/recommend", "?" + "code=a&" * 8_000, [])
@example("GET", "/api/recommend", "?code=" + "a" * 60_000, [])
@example("GET", "/", "", [("X-A", "b" * 100)] * 2_000)
@example("HEAD", "/api/events", "", [])
@example("GET", "/static/page.css", "", [("Range", "bytes=9-1,--,0-,5-")])
@example("GET", "http://shop.example/", "", [])
@example("OPTIONS", "*", "", [])
def test_any_request_is_answered_and_never_500(serving, method, path, query, more):
    _, port = serving
    named = [] if any(name == "Host" for name, _ in more) else [("Host", "127.0.0.1")]
    lines = [f"{method} {path}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in (*named, *more))]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    with contextlib.suppress(ConnectionError):  # hung up before a flood was read to its end
        answered = status(port, request)
        assert answered is None or answered < 500, request[:500]
        if "%00" in path + query and answered is not None and not more:
            assert answered == 400, request[:500]


@pytest.mark.stack
def test_an_id_with_a_slash_is_an_id(serving):
    _, port = serving
    with pytest.raises(HTTPError) as raised:
        urlopen(f"http://127.0.0.1:{port}/api/customer/a%2Fb")
    assert "No purchases found for a/b" in json.load(raised.value)["error"]


@pytest.mark.stack
def test_what_is_no_text_is_refused_and_what_is_goes_on(serving):
    page, port = serving
    ask = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".format
    for path in (
        "/api/customer/%00",
        "/api/recommend?code=%00",
        "/static/%00",
        "/%00",
        "/api/customer/%ff",
        "/?%ed%a0%80",
    ):
        assert status(port, ask(path).encode()) == 400, path
    for path, code in (("/api/customer/%F0%9F%9B%92", 404), ("/api/recommend?code=%C3%A9", 200), ("/?x=%2500", 200)):
        assert status(port, ask(path).encode()) == code, path
    assert status(port, b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n") == 400
    assert status(port, b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n") == 200
    assert status(port, b"GET / HTTP/1.1\r\n\r\n") == 400
    with knock(
        port, b"HEAD /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /api/page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    ) as two:
        answers = b""
        while b'"cards"' not in answers:  # the second is answered: the first did not become a viewer
            answers += two.recv(65_536)
    assert page.process.poll() is None
