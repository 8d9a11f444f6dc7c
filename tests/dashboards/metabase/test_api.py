"""The client: what is sent again, what is not, and what is said when something is wrong."""

import json

import httpx
import pytest

from conf.masking import conceal
from dashboards.metabase.api import Metabase, MetabaseConflictError, MetabaseError, MetabaseUnavailableError

URL = "http://metabase.example"


def client(*answers):
    """A client that gets these answers one after the other (an exception: the connection breaks so), and its log."""
    sent = []
    left = list(answers)

    def answer(request):
        sent.append((request.method, request.url.path))
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    return Metabase(URL, httpx.MockTransport(answer)), sent


OK = httpx.Response(200, json={"status": "ok", "id": 7})
LOST, UNSENT = httpx.ReadError("reset"), httpx.ConnectError("refused")


@pytest.mark.parametrize("error", [LOST, UNSENT])
def test_reading_and_replacing_are_sent_again(error):
    for call in (lambda api: api.get("/api/card/1"), lambda api: api.put("/api/card/1", {"archived": True})):
        api, sent = client(error, error, OK)
        assert call(api)["id"] == 7
        assert len(sent) == 3


def test_creating_is_sent_again_only_if_it_was_never_received():
    api, sent = client(UNSENT, OK)
    assert api.post("/api/card", {})["id"] == 7
    assert len(sent) == 2
    api, sent = client(LOST, OK)
    with pytest.raises(
        MetabaseUnavailableError, match=r"became unavailable \(POST /api/card: reset\): run `metabase apply` again"
    ):
        api.post("/api/card", {})
    assert len(sent) == 1


def test_it_gives_up_after_a_few_tries():
    api, sent = client(*[UNSENT] * 9)
    with pytest.raises(MetabaseUnavailableError, match="refused"):
        api.get("/api/card/1")
    assert len(sent) == 4


def test_no_such_thing_is_said():
    with pytest.raises(MetabaseError, match=r"refused GET /api/card/1 \(404\): Not found\."):
        client(httpx.Response(404, text="Not found."))[0].get("/api/card/1")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(401, text="Unauthenticated"), "ended the session"),
        (httpx.Response(403, text="You don't have permissions to do that."), "must name an administrator"),
        (
            httpx.Response(400, json={"message": "No.", "errors": {"host": "check it"}}),
            r"\(400\): No\.; host: check it",
        ),
        (httpx.Response(400, json={"specific-errors": {"name": ["blank"]}}), r"name: \['blank'\]"),
        (httpx.Response(500, text=""), r"\(500\): status 500"),
        (httpx.Response(200, text="<html>"), "is not Metabase's: '<html>'"),
    ],
)
def test_a_refusal_says_what_metabase_said(answer, says):
    with pytest.raises(MetabaseError, match=says):
        client(answer)[0].post("/api/database", {})


def test_too_many_wrong_passwords():
    body = {"errors": {"username": "Too many attempts! You must wait 15 seconds before trying again."}}
    with pytest.raises(MetabaseError, match="wants a pause after wrong passwords: username: Too many attempts"):
        client(httpx.Response(401, json=body))[0].log_in("a@b.example", "x")


SECRET = 'se "c\\r/et é'


@pytest.mark.parametrize(
    "answer",
    [
        {"specific-errors": {"password": [f"too common, received: {json.dumps(SECRET, ensure_ascii=False)}"]}},
        {"specific-errors": {"password": [f"too common, received: {json.dumps(SECRET)}"]}},
        {"errors": {"password": SECRET}},
        {"message": f"cannot connect with {SECRET}."},
        SECRET,
    ],
)
@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_what_is_hidden_is_in_no_message_however_it_is_quoted(answer, status):
    api, _ = client(httpx.Response(status, json=answer))
    conceal(SECRET)
    with pytest.raises(MetabaseError) as failure:
        api.post("/api/database", {})
    assert "***" in str(failure.value)
    assert "c\\r" not in str(failure.value)


def test_a_key_is_sent_with_each_call_and_never_shown():
    seen = []

    def answer(request):
        seen.append(request.headers.get("x-api-key"))
        return httpx.Response(401 if len(seen) > 1 else 200, json={"id": 1, "said": "mb_key"})

    with Metabase(URL, httpx.MockTransport(answer)) as api:
        api.use_key("mb_key")
        api.get("/api/user/current")
        with pytest.raises(MetabaseError, match="does not take the key of METABASE_API_KEY") as failure:
            api.get("/api/card/1")
    assert seen == ["mb_key", "mb_key"], "and leaving ends no session"
    assert "mb_key" not in str(failure.value)


def test_a_conflict_can_be_told_from_other_refusals():
    with pytest.raises(MetabaseConflictError, match="out of date"):
        client(httpx.Response(409, text="your data is out of date"))[0].put("/api/permissions/graph", {})


@pytest.mark.parametrize(
    "answer", [httpx.Response(404), httpx.Response(200, text="hello"), httpx.Response(200, json={"status": "fine"})]
)
def test_what_is_not_metabase_is_said_at_once(answer):
    waited = []
    with pytest.raises(MetabaseError, match="set METABASE_URL"):
        client(answer)[0].wait_until_healthy(60, waited.append)
    assert waited == []


def test_leaving_logs_out_and_never_hides_an_error():
    api, sent = client(OK, httpx.ReadError("gone"))
    with pytest.raises(ValueError, match="mine"), api:  # noqa: PT012
        api.log_in("a@b.example", "x")
        raise ValueError("mine")
    assert sent[-1] == ("DELETE", "/api/session")
    api, sent = client()
    with api:
        pass
    assert sent == [], "not logged in: nothing to leave"
