"""A Metabase that remembers, over HTTP, for the calls that dashboards/metabase makes: as strict as its source.

Each request and each answer is held against the API document (contract.py); one that is not of it is refused and
remembered in `violations`. What the handlers do beyond that is here as Metabase's source has it. The docstring of each
handler names the file below src/metabase and the function that it was compared with; docs/metabase.md lists them with
the commits. Where releases differ, the strictest one counts: what one of them drops or refuses, this one does.
"""

import copy
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

HIDDEN = "**MetabasePass**"  # secrets/models/secret.clj, protected-password
TRASH = 4711
EVERYONE, ADMINISTRATORS = 1, 2
COMMON_PASSWORDS = {"password1", "passw0rd", "qwerty123", "abc123", "1q2w3e4r", "trustno1"}  # some of 12,000
_OPEN = {("GET", "/api/health"), ("GET", "/api/session/properties"), ("POST", "/api/session"), ("POST", "/api/setup")}
_NEVER = {"archived": False, "archived_directly": False}
_ATTEMPTS, _FIRST_PAUSE, _EXPONENT = 10, 15, 1.5  # throttle/core.clj, throttler-defaults
_STALE = (
    "Looks like someone else edited the permissions and your data is out of date. Please fetch new data and try again."
)


class RefusalError(Exception):
    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body


def invalid(path: list[str], says: str, received: Any) -> RefusalError:
    """api/macros.clj, decode-and-validate-params: the errors by field, and once more with what was received."""
    errors: Any = says
    specific: Any = [f"{says}, received: {json.dumps(received, ensure_ascii=False)}"]
    for name in reversed(path):
        errors, specific = {name: errors}, {name: specific}
    return RefusalError(400, {"specific-errors": specific, "errors": errors})


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
        self.api_keys: dict[str, str] = {}
        self.attempts: list[tuple[str, float]] = []
        self.databases: dict[int, dict[str, Any]] = {1: {"name": "Sample Database", "engine": "h2", "details": {}}}
        self.synced: list[int] = []
        self.collections: dict[int, dict[str, Any]] = {}
        self.cards: dict[int, dict[str, Any]] = {}
        self.dashboards: dict[int, dict[str, Any]] = {}
        self.groups: dict[int, dict[str, Any]] = {
            EVERYONE: {"name": "All Users", "magic_group_type": "all-internal-users"},
            ADMINISTRATORS: {"name": "Administrators", "magic_group_type": "admin"},
        }
        self.data_rights: dict[tuple[int, int], dict[str, Any]] = {}  # by group and database
        self.collection_rights: dict[int, dict[int | str, str]] = {EVERYONE: {"root": "write"}}
        self.revisions = {"data": 1, "collections": 1}
        self.hasty_editors = 0  # how many more times someone else is faster with a graph
        self._ids = itertools.count(2)

    # --- what tests do to it, as a person would in the browser

    def add_user(self, email: str, password: str, *, is_superuser: bool = True) -> None:
        self.users[email] = {"id": next(self._ids), "email": email, "password": password, "is_superuser": is_superuser}
        self.setup_token = None

    def add_api_key(self, key: str, *, is_superuser: bool = True) -> None:
        self.add_user(f"api-key-user-{key[:4]}@api-key.invalid", secrets.token_hex(9), is_superuser=is_superuser)
        self.api_keys[key] = list(self.users)[-1]

    def add_group(self, name: str) -> int:
        """permissions/models/permissions_group.clj, set-default-permission-values!: as all users may"""
        number = max(self.groups) + 1
        self.groups[number] = {"name": name, "magic_group_type": None}
        for database in self.databases:
            if (EVERYONE, database) in self.data_rights:
                self.data_rights[number, database] = dict(self.data_rights[EVERYONE, database])
        return number

    def card_named(self, name: str) -> dict[str, Any]:
        (found,) = (card for card in self.cards.values() if card["name"] == name)
        return found

    def number_of(self, name: str) -> int:
        (number,) = (number for number, card in self.cards.items() if card["name"] == name)
        return number

    def trash(self, thing: dict[str, Any]) -> None:
        thing.update(archived=True, archived_directly=True)

    def copy_card(self, number: int) -> int:
        """queries_rest/api/card.clj, POST /:id/copy: all that create-card! keeps, so the description too."""
        made = next(self._ids)
        name = f"Copy of {self.cards[number]['name']}"
        self.cards[made] = copy.deepcopy(self.cards[number]) | {"name": name, "entity_id": _nano_id()}
        return made

    def trash_collection(self, number: int) -> None:
        """collections/models/collection.clj, archive-collection!: what lies in it goes along, not `directly`."""
        self.trash(self.collections[number])
        self._move_contents(number, archived=True)

    def _move_contents(self, number: int, *, archived: bool) -> None:
        for one in (*self.cards.values(), *self.dashboards.values()):
            if one["collection_id"] == number and not one["archived_directly"]:
                one["archived"] = archived

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
            if (method, path) not in _OPEN and self._user(request) is None:
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
        number = int(found.path_values.get("id") or found.path_values.get("db_id") or 0)
        administrators = {"POST /api/database", "GET /api/permissions", "PUT /api/permissions", "PUT /api/database"}
        if f"{method} {'/'.join(template.split('/')[:3])}" in administrators or template.endswith("/graph"):
            self._check_superuser(request)
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
                return self._log_in(body)
            case "DELETE", "/api/session":
                return self._log_out(request)
            case "GET", "/api/user/current":
                user = self._user(request)
                assert user is not None
                return {name: value for name, value in user.items() if name != "password"}
            case "GET", "/api/cache":
                return {"data": self.cache_policies}
            case "GET", "/api/database":
                shown = [self._database(one) for one in self.databases]
                return {"data": shown, "total": len(shown)}
            case "POST", "/api/database":
                return self._add_database(body)
            case "GET", "/api/database/{id}":
                return self._database(number)
            case "PUT", "/api/database/{id}":
                return self._change_database(number, body)
            case "GET", "/api/database/{id}/healthcheck":
                trouble = self._trouble(self.databases[number]["details"])
                return {"status": "error", "message": trouble} if trouble else {"status": "ok"}
            case "POST", "/api/database/{id}/sync_schema":
                return self._sync_schema(number)
            case "GET", "/api/permissions/group":
                return [{"id": one, "member_count": 1, **group} for one, group in self.groups.items()]
            case "GET", "/api/permissions/graph/db/{db_id}":
                return self._data_graph(databases={number})
            case "PUT", "/api/permissions/graph":
                return self._change_data_graph(body)
            case "GET", "/api/collection":
                return self._collections(archived=query["archived"] == "true")
            case "POST", "/api/collection":
                return self._add_collection(body)
            case "GET", "/api/collection/trash":
                return {"id": TRASH, "name": "Trash", "type": "trash"}
            case "GET", "/api/collection/graph":
                return self._collection_graph()
            case "PUT", "/api/collection/graph":
                return self._change_collection_graph(body)
            case "PUT", "/api/collection/{id}":
                return self._change_collection(number, body)
            case "GET", "/api/collection/{id}/items":
                return self._items(number, query)
            case "POST", "/api/card":
                return self._add_card(body)
            case "GET", "/api/card/{id}":
                return self._get_card(number, legacy=query.get("legacy-mbql") == "true")
            case "PUT", "/api/card/{id}":
                return self._change_card(number, body)
            case "POST", "/api/dashboard":
                return self._add_dashboard(body)
            case "GET", "/api/dashboard/{id}":
                return self._get_dashboard(number)
            case "PUT", "/api/dashboard/{id}":
                return self._change_dashboard(number, body)
        raise AssertionError(f"the fake knows nothing of {method} {template}")

    # --- accounts

    def _user(self, request: Request) -> dict[str, Any] | None:
        """server/middleware/session.clj, merge-current-user-info: a session's user, else an API key's."""
        email = self.sessions.get(request.headers.get("x-metabase-session", ""))
        return self.users.get(email or self.api_keys.get(request.headers.get("x-api-key", ""), ""))

    def _check_superuser(self, request: Request) -> None:
        """api/common.clj, check-superuser"""
        user = self._user(request)
        if user is None or not user["is_superuser"]:
            raise RefusalError(403, "You don't have permissions to do that.")

    def _set_up(self, body: dict[str, Any]) -> dict[str, Any]:
        """setup_rest/api.clj, POST /, setup-create-user!; the password: util/password.clj, is-valid?, at `normal`."""
        password = body["user"]["password"]
        if body["token"] != self.setup_token:
            raise invalid(["token"], "Token does not match the setup token.", body["token"])
        if len(password) < 6 or not any(map(str.isdigit, password)) or password.lower() in COMMON_PASSWORDS:
            raise invalid(["user", "password"], "password is too common.", password)
        if self.users:
            raise RefusalError(
                403, "The /api/setup route can only be used to create the first user, however a user currently exists."
            )
        self.add_user(body["user"]["email"], password)
        return self._session(body["user"]["email"])

    def _log_in(self, body: dict[str, Any]) -> dict[str, str]:
        """session/api.clj, POST /, with throttle/core.clj, do-with-throttling: every failure is a 401."""
        name = body["username"]
        failed = [when for who, when in self.attempts if who == name]
        if len(failed) >= _ATTEMPTS:
            pause = _FIRST_PAUSE * (len(failed) + 1 - _ATTEMPTS) ** _EXPONENT
            self.attempts.append((name, time.monotonic()))
            says = f"Too many attempts! You must wait {round(pause)} seconds before trying again."
            raise RefusalError(401, {"errors": {"username": says}})
        user = self.users.get(name)
        if user is None or user["password"] != body["password"]:
            self.attempts.append((name, time.monotonic()))
            raise RefusalError(401, {"errors": {"password": "did not match stored password"}})
        return self._session(name)

    def _log_out(self, request: Request) -> None:
        """session/api.clj, DELETE /: 404 without a session, with an API key too"""
        if self.sessions.pop(request.headers.get("x-metabase-session", ""), None) is None:
            raise RefusalError(404, "Not found.")

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

    def _add_database(self, body: dict[str, Any]) -> dict[str, Any]:
        """warehouses_rest/api.clj, POST /

        Rights: permissions/models/data_permissions.clj, set-new-database-permissions!
        """
        details = self._connected(body["details"])
        kept = ("name", "engine", "is_full_sync", "is_on_demand", "cache_ttl", "provider_name", "auto_run_queries")
        number = next(self._ids)
        self.databases[number] = {name: body[name] for name in kept if name in body} | {"details": details}
        for group in self.groups.keys() - {ADMINISTRATORS}:
            rights = {"view-data": "unrestricted", "create-queries": "query-builder-and-native"}
            self.data_rights[group, number] = rights | {"download": {"schemas": "full"}}
        return self._database(number)

    def _connected(self, details: dict[str, Any]) -> dict[str, Any]:
        """warehouses/core.clj, test-connection-details: the details that connected, with TLS if that works."""
        for tried in ({**details, "ssl": True}, details):
            trouble = self._trouble(tried)
            if trouble is None:
                return tried
        raise RefusalError(400, {"message": trouble, "errors": {"host": "check your host settings"}})

    def _change_database(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """warehouses_rest/api.clj, PUT /:id, upsert-sensitive-fields: connects only if the details have changed."""
        held = self.databases[number]
        details = {**held["details"], **(body.get("details") or {})}
        if details.get("password") == HIDDEN:
            details["password"] = held["details"]["password"]
        trouble = self._trouble(details) if details != held["details"] else None
        if trouble:
            raise RefusalError(400, {"message": trouble})
        held.update({**{name: value for name, value in body.items() if value is not None}, "details": details})
        return self._database(number)

    def _sync_schema(self, number: int) -> dict[str, str]:
        """warehouses_rest/api.clj, POST /:id/sync_schema: connects first, the sync itself runs later."""
        trouble = self._trouble(self.databases[number]["details"])
        if trouble:
            raise RefusalError(422, trouble)
        self.synced.append(number)
        return {"status": "ok"}

    def _database(self, number: int) -> dict[str, Any]:
        """warehouses_rest/api.clj, GET /:id; warehouses/models/database.clj, to-json: the password is hidden."""
        if number not in self.databases:
            raise RefusalError(404, "Not found.")
        held = self.databases[number]
        details = {**held["details"], "let-user-control-scheduling": False}
        if "password" in details:
            details["password"] = HIDDEN
        return {"id": number, **held, "details": details, "features": ["native-parameters"], "is_sample": number == 1}

    # --- permissions

    def _data_graph(self, *, databases: set[int] | None = None, groups: set[int] | None = None) -> dict[str, Any]:
        """permissions_rest/data_permissions/graph.clj, api-graph: the least that may be is left out."""
        shown: dict[str, dict[str, Any]] = {}
        for (group, database), rights in self.data_rights.items():
            if (databases is None or database in databases) and (groups is None or group in groups):
                told = {name: value for name, value in rights.items() if value != "no"}
                shown.setdefault(str(group), {})[str(database)] = told
        if groups is None or ADMINISTRATORS in groups:
            everything = {"view-data": "unrestricted", "create-queries": "query-builder-and-native", "details": "yes"}
            shown[str(ADMINISTRATORS)] = {str(one): everything for one in databases or self.databases}
        return {"revision": self.revisions["data"], "groups": shown}

    def _check_revision(self, kind: str, body: dict[str, Any]) -> None:
        """permissions/util.clj, check-revision-numbers"""
        if self.hasty_editors:
            self.hasty_editors -= 1
            self.revisions[kind] += 1
        if body.get("revision") != self.revisions[kind]:
            raise RefusalError(409, _STALE)
        self.revisions[kind] += 1

    def _change_data_graph(self, body: dict[str, Any]) -> dict[str, Any]:
        """permissions_rest/api.clj, PUT /graph; permissions_rest/schema.clj, db-perms (closed), valid-db-perms?

        Only what is sent changes. `blocked` is for a licence: permissions_rest/data_permissions/graph.clj,
        validate-blocked-permissions!
        """
        known = {"view-data", "create-queries", "data", "download", "data-model", "details", "transforms", "workspaces"}
        self._check_revision("data", body)
        for group, databases in body["groups"].items():
            for database, rights in databases.items():
                if unknown := rights.keys() - known:
                    raise RefusalError(400, f"Cannot parse permissions graph because it is invalid: {unknown}")
                if rights.get("view-data") == "blocked":
                    raise RefusalError(402, "The blocked permissions functionality is only enabled with a token.")
                self.data_rights.setdefault((int(group), int(database)), {}).update(rights)
        return self._data_graph(groups={int(group) for group in body["groups"]})

    def _collection_graph(self) -> dict[str, Any]:
        """permissions/models/collection/graph.clj, graph: sparse, and without what is archived"""
        there = {"root", *(number for number, one in self.collections.items() if not one["archived"])}
        shown = {
            str(group): {str(one): right for one, right in rights.items() if one in there}
            for group, rights in self.collection_rights.items()
        }
        shown[str(ADMINISTRATORS)] = {str(one): "write" for one in there}
        return {"revision": self.revisions["collections"], "groups": shown}

    def _change_collection_graph(self, body: dict[str, Any]) -> dict[str, Any]:
        """collections_rest/api.clj, PUT /graph; permissions/models/collection/graph.clj, update-graph!"""
        self._check_revision("collections", body)
        for group, rights in body["groups"].items():
            for collection, right in rights.items():
                held = self.collection_rights.setdefault(int(group), {})
                held["root" if collection == "root" else int(collection)] = right
        return self._collection_graph()

    # --- collections

    def _collections(self, *, archived: bool) -> list[dict[str, Any]]:
        """collections_rest/api.clj, GET /, select-collections: the root, or the trash with what is archived"""
        first = {"id": TRASH, "name": "Trash"} if archived else {"id": "root", "name": "Our analytics"}
        listed = ({"id": number, **one} for number, one in self.collections.items() if one["archived"] == archived)
        return [first, *listed]

    def _add_collection(self, body: dict[str, Any]) -> dict[str, Any]:
        """collections_rest/api.clj, POST /; rights as the parent's: collections/models/collection.clj, after-insert"""
        number = next(self._ids)
        self.collections[number] = {**_NEVER, "location": "/", "slug": "a_slug", **body}
        for rights in self.collection_rights.values():
            if "root" in rights:
                rights[number] = rights["root"]
        return {"id": number, **self.collections[number]}

    def _change_collection(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """collections_rest/api.clj, PUT /:id, archive-collection!: out of the trash with all that went there with it"""
        held = self.collections[number]
        held.update({name: body[name] for name in ("name", "description") if name in body})
        if held["archived"] and body.get("archived") is False:
            held.update(_NEVER)
            self._move_contents(number, archived=False)
        elif body.get("archived"):
            self.trash_collection(number)
        return {"id": number, **held}

    def _items(self, number: int, query: dict[str, str]) -> dict[str, Any]:
        """collections_rest/api.clj, GET /:id/items, card-query, dashboard-query: the trash holds what was thrown there
        itself; server/middleware/offset_paging.clj, handle-paging: 50 a page if only the offset is given
        """
        if number != TRASH and number not in self.collections:
            raise RefusalError(404, "Not found.")
        model = query["models"]
        archived = query["archived"] == "true" or number == TRASH or self.collections[number]["archived"]
        held = self.cards if model == "card" else self.dashboards
        found = [
            {
                "id": one,
                "model": model,
                "name": thing["name"],
                "description": thing["description"],
                "entity_id": thing["entity_id"],
                "archived": thing["archived"],
                "collection_id": number,
                "last-edit-info": {"id": 1},
            }
            for one, thing in held.items()
            if thing["archived"] == archived
            and (thing["archived_directly"] if number == TRASH else thing["collection_id"] == number)
            and (number == TRASH or not thing["archived_directly"])
        ]
        found.sort(key=lambda item: (item["name"].lower(), item["id"]))
        if "limit" in query or "offset" in query:
            start = int(query.get("offset", "0"))
            return {
                "total": len(found),
                "data": found[start : start + int(query.get("limit", "50"))],
                "models": [model],
            }
        return {"total": len(found), "data": found, "models": [model]}

    # --- cards

    def _add_card(self, body: dict[str, Any]) -> dict[str, Any]:
        """queries_rest/api/card.clj, POST /; queries/models/card.clj, create-card!: these keys and an id of its own"""
        if body["dataset_query"]["database"] not in self.databases:
            raise RefusalError(404, "Not found.")
        if body.get("collection_id") is not None and body["collection_id"] not in self.collections:
            raise RefusalError(404, "Not found.")
        kept = ("dataset_query", "description", "display", "name", "visualization_settings", "collection_id", "type")
        number = next(self._ids)
        self.cards[number] = {
            **dict.fromkeys(kept),
            **{name: copy.deepcopy(body[name]) for name in kept if name in body},
            "parameters": copy.deepcopy(body.get("parameters") or []),
            "entity_id": _nano_id(),
            **_NEVER,
        }
        return self._card(number)

    def _change_card(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """queries_rest/api/card.clj, PUT /:id; queries/models/card.clj, update-card!: null unsets these two only"""
        self._check_card(number)
        held = self.cards[number]
        if "archived" in body and body["archived"] != held["archived"]:
            held["archived_directly"] = body["archived"]  # api/common.clj, updates-with-archived-directly
        nullable = {"collection_id", "description"}
        held.update({name: value for name, value in body.items() if value is not None or name in nullable})
        return self._card(number)

    def _check_card(self, number: int) -> None:
        if number not in self.cards:
            raise RefusalError(404, "Not found.")

    def _get_card(self, number: int, *, legacy: bool) -> dict[str, Any]:
        """queries_rest/api/card.clj, GET /:id, get-card, present-in-trash-if-archived-directly"""
        self._check_card(number)
        return self._card(number, legacy=legacy) | (
            {"collection_id": TRASH} if self.cards[number]["archived_directly"] else {}
        )

    def _card(self, number: int, *, legacy: bool = False) -> dict[str, Any]:
        """queries_rest/api/card.clj, hydrate-card-details; its query as MBQL 5 since release 57"""
        held = self.cards[number]
        query = held["dataset_query"]
        stage = {"lib/type": "mbql.stage/native", "native": query["native"]["query"]}
        stage["template-tags"] = query["native"].get("template-tags") or {}
        as_mbql_5 = {"lib/type": "mbql/query", "database": query["database"], "stages": [stage]}
        return {
            "id": number,
            **held,
            "dataset_query": query if legacy else as_mbql_5,
            "parameters": [{**parameter, "required": False} for parameter in held["parameters"]],
            "result_metadata": None,
            "creator": {"id": 1, "common_name": "Retail Mart"},
            "can_write": True,
        }

    # --- dashboards

    def _add_dashboard(self, body: dict[str, Any]) -> dict[str, Any]:
        """dashboards_rest/api.clj, POST /: name, description, parameters and collection are kept"""
        number = next(self._ids)
        kept = ("name", "description", "parameters", "collection_id")
        fixed = {"dashcards": [], "tabs": [], "width": "fixed", "entity_id": _nano_id(), **_NEVER}
        self.dashboards[number] = {
            **dict.fromkeys(kept),
            **fixed,
            **{name: body[name] for name in kept if name in body},
        }
        return self._dashboard(number)

    def _get_dashboard(self, number: int) -> dict[str, Any]:
        """dashboards_rest/api.clj, GET /:id, get-dashboard*"""
        if number not in self.dashboards:
            raise RefusalError(404, "Not found.")
        return self._dashboard(number) | (
            {"collection_id": TRASH} if self.dashboards[number]["archived_directly"] else {}
        )

    def _dashboard(self, number: int) -> dict[str, Any]:
        """dashboards_rest/api.clj, hydrate-dashboard-details; dashboards/models/dashboard.clj, :dashcards

        Tiles of archived cards are hidden.
        """
        held = self.dashboards[number]
        tiles = [
            {**tile, "card": self._card(tile["card_id"]), "dashboard_id": number, "series": [], "action_id": None}
            for tile in held["dashcards"]
            if not self.cards[tile["card_id"]]["archived"]
        ]
        return {"id": number, **held, "dashcards": tiles, "auto_apply_filters": True, "can_write": True}

    def _change_dashboard(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """dashboards_rest/api.clj, PUT /:id, update-dashboard!, do-update-dashcards!, create-dashcards!

        Tiles of a dashboard that was archived before the call, or of an archived card, are refused: api/common.clj,
        check-not-archived. A hidden tile is not among those that a call replaces: it stays.
        """
        held = self.dashboards[number]
        archived = {"message": "The object has been archived.", "error_code": "archived"}
        if "dashcards" in body and held["archived"]:
            raise RefusalError(404, archived)
        known = {tile["id"] for tile in held["dashcards"]}
        tiles = []
        for tile in body.get("dashcards") or []:
            self._check_card(tile["card_id"])
            if tile["id"] not in known and self.cards[tile["card_id"]]["archived"]:
                raise RefusalError(404, archived)
            if len({one["id"] for one in body["dashcards"]}) < len(body["dashcards"]):
                raise invalid(["dashcards"], "value must be seq of maps in which ids are unique", body["dashcards"])
            tiles.append({**tile, "id": tile["id"] if tile["id"] in known else next(self._ids)})
        if "archived" in body and body["archived"] != held["archived"]:
            held["archived_directly"] = body["archived"]
        nullable = {"description", "collection_id"}
        held.update({name: value for name, value in body.items() if value is not None or name in nullable})
        if "dashcards" in body:
            hidden = [tile for tile in held["dashcards"] if self.cards[tile["card_id"]]["archived"]]
            held["dashcards"] = [*tiles, *hidden]
        return self._dashboard(number)


def _nano_id() -> str:
    """util.clj, generate-nano-id"""
    return secrets.token_hex(10) + "A"


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
