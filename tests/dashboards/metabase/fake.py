"""A Metabase that remembers, over HTTP, for the calls that dashboards/metabase makes.

Each request and each answer is held against the OpenAPI document; one that is not of it is refused and remembered in
`violations`. Where Metabase does something of its own to what it is given, so does this one: it hides the database's
password and prefers TLS, gives queries as MBQL 5 unless asked for the old form, shows what is archived as lying in the
trash and leaves its tiles off the dashboard, and adds columns of its own to everything.
"""

import itertools
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.dashboards.metabase.contract import Contract

HIDDEN = "**MetabasePass**"
TRASH = 4711
_OPEN = {("GET", "/api/health"), ("GET", "/api/session/properties"), ("POST", "/api/session"), ("POST", "/api/setup")}


class RefusalError(Exception):
    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body


class FakeMetabase:
    """The state of one Metabase, and the PostgreSQL that it can reach (`postgres`: the details that connect)."""

    def __init__(self, postgres: dict[str, Any], *, offers_tls: bool = False, contract: Contract | None = None) -> None:
        self.contract = contract or Contract()
        self.postgres, self.offers_tls = postgres, offers_tls
        self.calls: list[tuple[str, str]] = []
        self.violations: list[str] = []
        self.setup_token: str | None = secrets.token_hex(8)
        self.version = "v0.58.1"
        self.starting = 0  # how many more times /api/health says that it is starting
        self.cache_policies: list[dict[str, Any]] = []
        self.users: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, str] = {}
        self.databases: dict[int, dict[str, Any]] = {1: {"name": "Sample Database", "engine": "h2", "details": {}}}
        self.synced: list[int] = []
        self.collections: dict[int, dict[str, Any]] = {}
        self.cards: dict[int, dict[str, Any]] = {}
        self.dashboards: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count(2)

    # --- what tests do to it, as a person would in the browser

    def add_user(self, email: str, password: str, *, is_superuser: bool = True) -> None:
        self.users[email] = {"id": next(self._ids), "email": email, "password": password, "is_superuser": is_superuser}
        self.setup_token = None

    def card_named(self, name: str) -> dict[str, Any]:
        (found,) = (card for card in self.cards.values() if card["name"] == name)
        return found

    @property
    def changing_calls(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] != "GET" and call[1] != "/api/session"]

    # --- HTTP

    async def answer(self, request: Request) -> Response:
        method, path = request.method, request.url.path
        text = await request.body()
        self.calls.append((method, path))
        try:
            body = json.loads(text) if text else None
            wrong = self.contract.wrong_request(method, path, list(request.query_params.multi_items()), body)
            if wrong:
                self.violations.append(f"{method} {path}: {'; '.join(wrong)}")
                raise RefusalError(400, {"errors": {"request": "; ".join(wrong)}})
            if (method, path) not in _OPEN and request.headers.get("x-metabase-session") not in self.sessions:
                raise RefusalError(401, "Unauthenticated")
            given = self._handle(method, path, dict(request.query_params), body, request)
        except RefusalError as refusal:
            kind = PlainTextResponse if isinstance(refusal.body, str) else JSONResponse
            return kind(refusal.body, refusal.status)
        wrong = self.contract.wrong_answer(method, path, given)
        if wrong:
            self.violations.append(f"answer of {method} {path}: {'; '.join(wrong)}")
        return Response(status_code=204) if given is None else JSONResponse(given)

    def _handle(self, method: str, path: str, query: dict[str, str], body: Any, request: Request) -> Any:
        found = self.contract.operation(method, path)
        assert found is not None
        template = found.pointer[1]
        thing = found.path_values.get("id", "")
        match method, template:
            case "GET", "/api/health":
                if self.starting:
                    self.starting -= 1
                    raise RefusalError(503, {"status": "initializing", "progress": 0.4})
                return {"status": "ok"}
            case "GET", "/api/session/properties":
                return {
                    "has-user-setup": bool(self.users),
                    "setup-token": self.setup_token,
                    "version": {"tag": self.version, "branch": "release"},
                    "site-name": "Metabase",
                }
            case "POST", "/api/setup":
                return self._set_up(body)
            case "POST", "/api/session":
                user = self.users.get(body["username"])
                if user is None or user["password"] != body["password"]:
                    raise RefusalError(401, {"errors": {"password": "did not match stored password"}})
                return self._session(user["email"])
            case "DELETE", "/api/session":
                del self.sessions[request.headers["x-metabase-session"]]
                return None
            case "GET", "/api/user/current":
                user = self.users[self.sessions[request.headers["x-metabase-session"]]]
                return {name: value for name, value in user.items() if name != "password"}
            case "GET", "/api/cache":
                return {"data": self.cache_policies}
            case "GET", "/api/database":
                shown = [self._database(number) for number in self.databases]
                return {"data": shown, "total": len(shown)}
            case "POST", "/api/database":
                number = next(self._ids)
                self.databases[number] = {**body, "details": self._connected(body["details"])}
                return self._database(number)
            case "GET", "/api/database/{id}":
                return self._database(int(thing))
            case "PUT", "/api/database/{id}":
                return self._change_database(int(thing), body)
            case "GET", "/api/database/{id}/healthcheck":
                trouble = self._trouble(self.databases[int(thing)]["details"])
                return {"status": "error", "message": trouble} if trouble else {"status": "ok"}
            case "POST", "/api/database/{id}/sync_schema":
                self.synced.append(int(thing))
                return {"status": "ok"}
            case "GET", "/api/collection":
                root = {"id": "root", "name": "Our analytics", "can_write": True}
                return [
                    root,
                    *({"id": number, **one} for number, one in self.collections.items() if not one["archived"]),
                ]
            case "POST", "/api/collection":
                number = next(self._ids)
                self.collections[number] = {"archived": False, "location": "/", "slug": "a_slug", **body}
                return {"id": number, **self.collections[number]}
            case "PUT", "/api/collection/{id}":
                self.collections[int(thing)].update(body)
                return {"id": int(thing), **self.collections[int(thing)]}
            case "GET", "/api/collection/{id}/items":
                items = list(self._items(int(thing), query["models"]))
                return {"data": items, "total": len(items), "models": [query["models"]]}
            case "POST", "/api/card":
                return self._add_card(body)
            case "GET", "/api/card/{id}":
                return self._card(self._card_number(thing), legacy=query.get("legacy-mbql") == "true")
            case "PUT", "/api/card/{id}":
                number = self._card_number(thing)
                self.cards[number].update(body)
                return self._card(number)
            case "POST", "/api/dashboard":
                number = next(self._ids)
                fixed = {
                    "archived": False,
                    "dashcards": [],
                    "tabs": [],
                    "width": "fixed",
                    "entity_id": secrets.token_hex(10) + "A",
                }
                self.dashboards[number] = {**fixed, **body}
                return self._dashboard(number)
            case "GET", "/api/dashboard/{id}":
                return self._dashboard(int(thing))
            case "PUT", "/api/dashboard/{id}":
                return self._change_dashboard(int(thing), body)
        raise AssertionError(f"the fake knows nothing of {method} {template}")

    # --- accounts

    def _set_up(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.users:
            raise RefusalError(
                403, "The /api/setup route can only be used to create the first user, however a user currently exists."
            )
        if body["token"] != self.setup_token:
            raise RefusalError(400, {"errors": {"token": "Token does not match the setup token."}})
        password = body["user"]["password"]
        if len(password) < 8 or not any(character.isdigit() for character in password):
            raise RefusalError(400, {"errors": {"user": {"password": "password is too common."}}})
        self.add_user(body["user"]["email"], password)
        return self._session(body["user"]["email"])

    def _session(self, email: str) -> dict[str, str]:
        key = secrets.token_hex(16)
        self.sessions[key] = email
        return {"id": key}

    # --- databases

    def _trouble(self, details: dict[str, Any]) -> str | None:
        if (details.get("host"), details.get("port")) != (self.postgres["host"], self.postgres["port"]):
            return f"Host '{details.get('host')}' is not reachable"
        if details.get("ssl") and not self.offers_tls:
            return "The server does not support SSL."
        if any(details.get(name) != self.postgres[name] for name in ("user", "password", "dbname")):
            return f'FATAL: password authentication failed for user "{details.get("user")}"'
        return None

    def _connected(self, details: dict[str, Any]) -> dict[str, Any]:
        """The details that connected: with TLS if that works, else as given."""
        for tried in ({**details, "ssl": True}, details):
            trouble = self._trouble(tried)
            if trouble is None:
                return tried
        raise RefusalError(400, {"message": trouble, "errors": {"host": "check your host settings"}})

    def _change_database(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        held = self.databases[number]
        details = {**held["details"], **(body.get("details") or {})}
        if details.get("password") == HIDDEN:
            details["password"] = held["details"]["password"]
        trouble = self._trouble(details)
        if trouble:
            raise RefusalError(400, {"message": trouble})
        held.update({**body, "details": details})
        return self._database(number)

    def _database(self, number: int) -> dict[str, Any]:
        if number not in self.databases:
            raise RefusalError(404, "Not found.")
        held = self.databases[number]
        details = {**held["details"], "let-user-control-scheduling": False}
        if "password" in details:
            details["password"] = HIDDEN
        return {"id": number, **held, "details": details, "features": ["native-parameters"], "is_sample": number == 1}

    # --- cards

    def _card_number(self, thing: str) -> int:
        numbers = [n for n, card in self.cards.items() if thing in (str(n), card["entity_id"])]
        if not numbers:
            raise RefusalError(404, "Not found.")
        return numbers[0]

    def _add_card(self, body: dict[str, Any]) -> dict[str, Any]:
        if any(card["entity_id"] == body.get("entity_id") for card in self.cards.values()):
            raise RefusalError(400, {"message": "Unique index or primary key violation: report_card.entity_id"})
        if body["dataset_query"]["database"] not in self.databases:
            raise RefusalError(400, {"errors": {"dataset_query": "the database is unknown"}})
        number = next(self._ids)
        self.cards[number] = {"archived": False, "entity_id": secrets.token_hex(10) + "A", "parameters": [], **body}
        return self._card(number)

    def _card(self, number: int, *, legacy: bool = False) -> dict[str, Any]:
        held = self.cards[number]
        query = held["dataset_query"]
        stage = {"lib/type": "mbql.stage/native", "native": query["native"]["query"]}
        as_mbql_5 = {"lib/type": "mbql/query", "database": query["database"], "stages": [stage]}
        return {
            "id": number,
            **held,
            "collection_id": TRASH if held["archived"] else held.get("collection_id"),
            "dataset_query": query if legacy else as_mbql_5,
            "parameters": [{**parameter, "required": False} for parameter in held["parameters"]],
            "result_metadata": None,
            "creator": {"id": 1, "common_name": "Retail Mart"},
            "can_write": True,
        }

    def _items(self, collection_id: int, model: str) -> Iterator[dict[str, Any]]:
        held = self.cards if model == "card" else self.dashboards
        for number, one in held.items():
            if one.get("collection_id") == collection_id and not one["archived"]:
                shown = {name: one.get(name) for name in ("name", "description", "entity_id", "collection_id")}
                yield {"id": number, "model": model, **shown, "last-edit-info": {"id": 1}}

    # --- dashboards

    def _dashboard(self, number: int) -> dict[str, Any]:
        held = self.dashboards[number]
        tiles = [
            {**tile, "card": self._card(tile["card_id"]), "dashboard_id": number, "series": [], "action_id": None}
            for tile in held["dashcards"]
            if not self.cards[tile["card_id"]]["archived"]
        ]
        return {"id": number, **held, "dashcards": tiles, "auto_apply_filters": True, "can_write": True}

    def _change_dashboard(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        held = self.dashboards[number]
        known = {tile["id"] for tile in held["dashcards"]}
        tiles = []
        for tile in body.get("dashcards") or []:
            if tile["card_id"] not in self.cards:
                raise RefusalError(404, "Not found.")
            if self.cards[tile["card_id"]]["archived"]:
                raise RefusalError(400, "The object has been archived.")
            tiles.append({**tile, "id": tile["id"] if tile["id"] in known else next(self._ids)})
        held.update(body | ({"dashcards": tiles} if "dashcards" in body else {}))
        return self._dashboard(number)


@contextmanager
def serving(fake: FakeMetabase) -> Iterator[str]:
    """Serve the fake on a free port; gives its URL."""
    methods = ["GET", "POST", "PUT", "DELETE"]
    application = Starlette(routes=[Route("/{path:path}", fake.answer, methods=methods)])
    # named as TCP, else asyncio leaves Nagle on for its connections and each answer waits 40 ms
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
