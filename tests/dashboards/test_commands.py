"""`retail-mart page` as a process: how it starts, refuses and ends, and to whom it answers."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest

from tests.builders.mart_rows import rows
from tests.builders.served import REFUSED, get, served


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_ends_cleanly_while_a_viewer_watches(number, code):
    with served(REFUSED) as page:
        events = urllib.request.urlopen(page.url() + "api/events", timeout=20)
        assert b"retry" in events.readline()
        assert page.ended(number) == (code, "")


def test_without_a_mart_it_says_how_to_have_one(tmp_path):
    with served(None, MART_HOME=str(tmp_path)) as page:
        code, errors = page.ended()
    assert code == 1
    assert errors == "no PostgreSQL: start the embedded one with `retail-mart up`, or set MART_DSN\n"


def test_taken_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with served(REFUSED, "--port", str(port)) as page:
            code, errors = page.ended()
    assert code == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; try another --port" in errors


def test_answers_only_to_its_own_name_and_loads_only_its_own_files():
    with served(REFUSED) as page:
        url = page.url()
        status, headers, body = get(url)
        assert status == 200
        assert b"Retail mart" in body
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["cache-control"] == "no-cache"
        assert get(url, Host="shop.example")[0] == 400
        assert get(url + "static/../cards.py")[0] == 404
        assert get(url + "static/%2e%2e/cards.py")[0] == 404


def test_questions_while_postgresql_is_unavailable_say_so():
    with served(REFUSED) as page:
        status, _, body = get(page.url() + "api/customer/12000")
    assert status == 503
    said = json.loads(body)
    assert said["error"] == "PostgreSQL is unreachable"
    assert "Connection refused" in said["detail"]


@pytest.mark.stack
def test_customers_and_recommendations_are_the_marts(shop, fresh_mart):
    [(customer, spent)] = rows(
        fresh_mart.owner_dsn,
        "SELECT customer_id, monetary FROM mart.customer_segmentation ORDER BY monetary DESC LIMIT 1",
    )
    with served(fresh_mart.reader_dsn) as page:
        url = page.url()
        status, _, body = get(f"{url}api/customer/{customer}")
        found = json.loads(body)
        assert status == 200
        assert found["customer"]["monetary"] == spent
        assert [row[0] for row in found["scores"]] == ["r", "f", "m"]
        assert found["moves"]
        assert found["invoices"]
        status, _, body = get(url + "api/customer/" + quote("'; DROP TABLE x --"))
        assert (status, json.loads(body)) == (
            404,
            {"error": "No purchases found for '; DROP TABLE x --"},
        )
        products = dict(json.loads(get(url + "api/products")[2]))
        assert products["IND-001"] == "Indomie Mi Goreng 85 g"
        recommended = json.loads(get(url + "api/recommend?code=IND-001&code=BEV-001&n=3")[2])
        expected = rows(fresh_mart.reader_dsn, "SELECT * FROM mart.recommend(ARRAY['IND-001', 'BEV-001'], 5)")
        assert [tuple(row) for row in recommended] == expected
        assert {"IND-002", "BEV-002"} <= {row[0] for row in recommended}
        assert get(url + "api/recommend")[0] == 400
        assert get(url + "api/recommend?" + "&".join(f"code={n}" for n in range(51)))[0] == 400
