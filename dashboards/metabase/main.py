"""Bring a Metabase to what the cards say, or tell what that would change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from conf.settings import Settings, SettingsError
from dashboards.cards import Card
from dashboards.metabase import account, plan
from dashboards.metabase.api import Metabase, MetabaseError
from dashboards.metabase.plan import Change, Existing, Wanted
from dashboards.metabase.questions import ENTITY_PREFIX, REFRESH_SECONDS, questions

API_VERSION = "58"  # of Metabase 0.58 and, with a licence, 1.58
Say = Callable[[str], None]


@dataclass(frozen=True)
class Applied:
    """What was done, the address of the dashboard that refreshes itself, and with what to log in there."""

    changes: Sequence[Change]
    dashboard_url: str
    log_in: str


def apply(settings: Settings, cards: Sequence[Card], say: Say, done: Callable[[Change], None]) -> Applied:
    """Set up, log in, and make each change that is needed; `done` is told of each as it is done.

    Raises MetabaseError, MetabaseAwayError or SettingsError. Interrupted, it goes on where it was when run again.
    """
    wanted = _wanted(settings, cards)
    with Metabase(settings.metabase_url) as api:
        is_set_up = _open(api, settings, say, set_up=True)
        first = [] if is_set_up else [Change("create", "administrator", settings.metabase_admin_email)]
        for change in first:
            done(change)
        existing = _read(api, wanted)
        made = plan.changes(wanted, existing)
        _carry_out(api, wanted, existing, made, done)
        if made:
            existing = _read(api, wanted)
            left = plan.changes(wanted, existing)
            if left:
                names = ", ".join(f"{change.kind} {change.name} ({'; '.join(change.notes)})" for change in left)
                raise MetabaseError(f"Metabase did not keep what it was given: {names}")
        if existing.dashboard is None:
            raise AssertionError("unreachable: a missing dashboard is a change")
        url = f"{settings.metabase_url}/dashboard/{existing.dashboard['id']}#refresh={REFRESH_SECONDS}"
        return Applied([*first, *made], url, account.log_in(settings))


def diff(settings: Settings, cards: Sequence[Card], say: Say) -> list[Change]:
    """The changes that `apply` would make now. Raises as `apply` does; only reads."""
    wanted = _wanted(settings, cards)
    with Metabase(settings.metabase_url) as api:
        existing = _read(api, wanted) if _open(api, settings, say, set_up=False) else Existing(is_set_up=False)
        return plan.changes(wanted, existing)


def _wanted(settings: Settings, cards: Sequence[Card]) -> Wanted:
    return Wanted(_connection(settings), questions(cards, settings.currency))


def _connection(settings: Settings) -> dict[str, Any]:
    """The database's connection as Metabase takes it: the reader's, at the address under which Metabase reaches it."""
    if settings.mart_reader_dsn is None:
        raise SettingsError(
            "MART_READER_DSN is not set: Metabase reads the mart as analytics_reader, never as the writer. "
            "Start the embedded PostgreSQL with `python -m stack up`, or set it"
        )
    try:
        reader = parse_dsn(settings.mart_reader_dsn.get_secret_value())
        writer = parse_dsn(settings.mart_dsn.get_secret_value()) if settings.mart_dsn else {}
    except ProgrammingError:
        raise SettingsError(
            "MART_DSN or MART_READER_DSN is no DSN: give it like postgresql://account:password@host:5432/mart"
        ) from None
    for part in ("user", "password", "dbname"):
        if not reader.get(part):
            raise SettingsError(
                f"MART_READER_DSN names no {part}: give it like postgresql://account:password@host/mart"
            )
    if reader["user"] == writer.get("user"):
        raise SettingsError(
            f"MART_READER_DSN logs in as {reader['user']}, the writer of MART_DSN: give it an account that may only "
            "read, such as analytics_reader"
        )
    mode = reader.get("sslmode", "prefer")
    encrypted = {"ssl-mode": mode} if mode in ("require", "verify-ca", "verify-full") else {}
    return {
        "host": settings.metabase_database_host or reader.get("host") or "localhost",
        "port": settings.metabase_database_port or int(reader.get("port") or 5432),
        "dbname": reader["dbname"],
        "user": reader["user"],
        "password": reader["password"],
        "ssl": bool(encrypted),
        **encrypted,
        "schema-filters-type": "inclusion",
        "schema-filters-patterns": "mart",
    }


def _open(api: Metabase, settings: Settings, say: Say, *, set_up: bool) -> bool:
    """Wait for Metabase and log in. False if it was fresh: set up now, or, if that is not wanted, not logged in."""
    api.wait_until_healthy(settings.metabase_timeout_seconds, say)
    properties = api.get("/api/session/properties")
    tag = str((properties.get("version") or {}).get("tag") or "of unknown version")
    if tag.split(".")[1:2] != [API_VERSION]:
        say(f"note: Metabase at {api.url} is {tag}; this was written for the API of v0.{API_VERSION}")
    if not properties.get("has-user-setup"):
        if set_up:
            _set_up(api, settings, properties.get("setup-token"))
        return False
    known = account.known_account(settings)
    if known is None:
        raise MetabaseError(
            f"Metabase at {api.url} is set up already, and nothing here knows its administrator: set "
            f"METABASE_ADMIN_EMAIL and METABASE_ADMIN_PASSWORD, or put back {account.file(settings)}"
        )
    api.log_in(*known)
    if not api.get("/api/user/current").get("is_superuser"):
        raise MetabaseError(f"{known.email} is not an administrator of Metabase: set METABASE_ADMIN_EMAIL to one")
    _warn_of_cache(api, say)
    return True


def _set_up(api: Metabase, settings: Settings, token: Any) -> None:
    if not token:
        raise MetabaseError(f"Metabase at {api.url} is not set up, but shows no setup token: set it up by hand")
    first = account.first_account(settings)
    api.set_up(str(token), first.email, first.password, site_name="Retail mart")


def _warn_of_cache(api: Metabase, say: Say) -> None:
    """A cache for all of Metabase is not ours to change, but whoever watches should know why nothing moves."""
    policies = api.get("/api/cache", model="root", sort_column="name", sort_direction="asc")["data"]
    cached = [policy for policy in policies if policy["strategy"]["type"] != "nocache"]
    if cached:
        say(
            f"note: Metabase caches results ({cached[0]['strategy']['type']}): the cards move only as its cache "
            "expires. Admin → Performance → Don't cache results"
        )


def _read(api: Metabase, wanted: Wanted) -> Existing:
    """What Metabase holds of ours. The query parameters are those that its API document calls required."""
    off = dict.fromkeys(
        ("include_analytics", "saved", "include_editable_data_model", "exclude_uneditable_details"), "false"
    )
    databases = api.get("/api/database", include_only_uploadable="false", **off)["data"]
    database = next((one for one in databases if one["name"] == plan.DATABASE["name"]), None)
    trouble = None
    if database is not None:
        database = api.get(f"/api/database/{database['id']}")
        health = api.get(f"/api/database/{database['id']}/healthcheck")
        trouble = None if health["status"] == "ok" else str(health.get("message") or "no reason given")
    listing = {"archived": "false", "exclude-other-user-collections": "true", "personal-only": "false"}
    collection = next(filter(plan.is_ours, api.get("/api/collection", **listing)), None)
    items = _items(api, collection["id"]) if collection else []
    listed = {
        item["entity_id"]: item["name"]
        for item in items
        if item["model"] == "card" and str(item["entity_id"]).startswith(ENTITY_PREFIX)
    }
    entity_ids = dict.fromkeys([*(question.entity_id for question in wanted.questions), *listed])
    legacy = {"legacy-mbql": "true"}  # the form in which queries are also sent
    cards = {entity_id: api.get_or_none(f"/api/card/{entity_id}", **legacy) for entity_id in entity_ids}
    boards = [item for item in items if item["model"] == "dashboard" and plan.is_ours(item)]
    return Existing(
        database=database,
        trouble=trouble,
        collection=collection,
        questions={entity_id: card for entity_id, card in cards.items() if card is not None},
        listed=listed,
        dashboard=api.get(f"/api/dashboard/{boards[0]['id']}") if boards else None,
    )


def _items(api: Metabase, collection_id: int) -> list[dict[str, Any]]:
    off = dict.fromkeys(("archived", "include_can_run_adhoc_query", "show_dashboard_questions"), "false")
    found: list[dict[str, Any]] = []
    for model in ("card", "dashboard"):
        found += api.get(f"/api/collection/{collection_id}/items", models=model, **off)["data"]
    return found


def _carry_out(
    api: Metabase, wanted: Wanted, existing: Existing, made: Sequence[Change], done: Callable[[Change], None]
) -> None:
    database_id = existing.database["id"] if existing.database else None
    collection_id = existing.collection["id"] if existing.collection else None
    card_ids = {entity_id: card["id"] for entity_id, card in existing.questions.items()}
    asked = {question.entity_id: question for question in wanted.questions}
    for change in made:
        entity_id = change.entity_id or ""
        match change.kind, change.action:
            case "database", _:
                database_id = _keep_database(api, wanted, database_id)
            case "collection", "create":
                collection_id = api.post("/api/collection", dict(plan.COLLECTION))["id"]
            case "collection", _:
                api.put(f"/api/collection/{collection_id}", {**plan.COLLECTION, "archived": False})
            case "question", "create":
                body = asked[entity_id].body(database_id, collection_id)
                card = api.post("/api/card", {**body, "type": "question", "entity_id": entity_id})
                card_ids[entity_id] = card["id"]
            case "question", "update":
                body = asked[entity_id].body(database_id, collection_id)
                api.put(f"/api/card/{card_ids[entity_id]}", {**body, "archived": False})
            case "question", _:
                api.put(f"/api/card/{card_ids[entity_id]}", {"archived": True})
            case "dashboard", _:
                _keep_dashboard(api, wanted, existing, collection_id, card_ids)
        done(change)


def _keep_database(api: Metabase, wanted: Wanted, database_id: int | None) -> int:
    """Add or change the database, and have Metabase look at its tables. Metabase connects before it answers."""
    body: dict[str, Any] = {**plan.DATABASE, "details": dict(wanted.details)}
    try:
        if database_id is None:
            more = {"is_full_sync": True, "is_on_demand": False, "connection_source": "admin"}
            database_id = int(api.post("/api/database", body | more)["id"])
        else:
            api.put(f"/api/database/{database_id}", body)
    except MetabaseError as error:
        where = f"{wanted.details['host']}:{wanted.details['port']}"
        raise MetabaseError(
            f"{error}. Metabase looked for PostgreSQL at {where} as {wanted.details['user']}: if that is not "
            "its address as seen from Metabase (from a container, localhost is the container), set "
            "METABASE_DATABASE_HOST and METABASE_DATABASE_PORT"
        ) from None
    api.post(f"/api/database/{database_id}/sync_schema")
    return database_id


def _keep_dashboard(
    api: Metabase, wanted: Wanted, existing: Existing, collection_id: int | None, card_ids: dict[str, int]
) -> None:
    body = plan.dashboard_body(wanted, card_ids, plan.tile_ids(existing))
    if existing.dashboard is None:
        new = {name: body[name] for name in ("name", "description", "parameters")}
        dashboard_id = api.post("/api/dashboard", {**new, "collection_id": collection_id})["id"]
    else:
        dashboard_id = existing.dashboard["id"]
    api.put(f"/api/dashboard/{dashboard_id}", body)
