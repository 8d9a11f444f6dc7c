"""Make a Metabase match the cards, or show what that would change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from conf.masking import conceal, masked
from conf.settings import Settings, SettingsError
from dashboards.cards import Card
from dashboards.metabase import access, account, identity, plan
from dashboards.metabase.access import Access
from dashboards.metabase.api import Metabase, MetabaseConflictError, MetabaseError, MetabaseUnavailableError
from dashboards.metabase.plan import Change, Existing, Wanted
from dashboards.metabase.questions import REFRESH_SECONDS, Question, questions

API_VERSION = "58"  # of Metabase 0.58 and, with a licence, 1.58: what the tests' API document is of
COMPARED = "was compared with the source (0.58 to 0.65, docs/metabase.md)"
_VERSIONS = [[str(version)] for version in range(58, 66)]
_LEGACY = {"legacy-mbql": "true"}  # the form in which queries are also sent
_PAGE = 200
_ATTEMPTS = 3
Say = Callable[[str], None]


@dataclass(frozen=True)
class Applied:
    """What was done, the address of the self-refreshing dashboard, and how to log in there."""

    changes: Sequence[Change]
    dashboard_url: str
    log_in: str


def apply(settings: Settings, cards: Sequence[Card], say: Say, done: Callable[[Change], None]) -> Applied:
    """Set up, log in, and make each change that is needed; `done` is called for each as it is done.

    Raises MetabaseError, MetabaseUnavailableError or SettingsError. If interrupted, run it again to continue.
    """
    wanted = _wanted(settings, cards)
    with Metabase(settings.metabase_url) as api:
        conceal(wanted.details["password"])
        is_set_up = _open(api, settings, say, set_up=True)
        first = [] if is_set_up else [Change("create", "administrator", settings.metabase_admin_email)]
        for change in first:
            done(change)
        existing = _read(api, wanted)
        _tell_of_copies(existing, say)
        made = plan.changes(wanted, existing)
        _carry_out(api, wanted, existing, made, done)
        if made:
            existing = _read(api, wanted)
            left = plan.changes(wanted, existing)
            for change in left:
                _kept(change.kind, change.name, change.notes or [f"to {change.action}"])
        if existing.dashboard is None:
            raise AssertionError("unreachable: a missing dashboard is a change")
        url = f"{settings.metabase_url}/dashboard/{existing.dashboard['id']}#refresh={REFRESH_SECONDS}"
        return Applied([*first, *made], url, account.log_in(settings))


def diff(settings: Settings, cards: Sequence[Card], say: Say) -> list[Change]:
    """The changes that `apply` would make now. Raises as `apply` does; only reads."""
    wanted = _wanted(settings, cards)
    with Metabase(settings.metabase_url) as api:
        conceal(wanted.details["password"])
        existing = _read(api, wanted) if _open(api, settings, say, set_up=False) else Existing(is_set_up=False)
        _tell_of_copies(existing, say)
        return plan.changes(wanted, existing)


def _wanted(settings: Settings, cards: Sequence[Card]) -> Wanted:
    return Wanted(_connection(settings), questions(cards, settings.currency))


def _connection(settings: Settings) -> dict[str, Any]:
    """The database's connection as Metabase takes it: the reader's, at the address under which Metabase reaches it."""
    if settings.mart_reader_dsn is None:
        raise SettingsError(
            "MART_READER_DSN is not set: Metabase reads the mart as analytics_reader, never as the writer. "
            "Start the embedded PostgreSQL with `retail-mart up`, or set it"
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
    host, port = _address(settings, reader)
    mode = reader.get("sslmode", "prefer")
    encrypted = {"ssl-mode": mode} if mode in ("require", "verify-ca", "verify-full") else {}
    return {
        "host": host,
        "port": port,
        "dbname": reader["dbname"],
        "user": reader["user"],
        "password": reader["password"],
        "ssl": bool(encrypted),
        **encrypted,
        "schema-filters-type": "inclusion",
        "schema-filters-patterns": "mart",
    }


def _address(settings: Settings, reader: Mapping[str, str]) -> tuple[str, int]:
    """Where Metabase looks for PostgreSQL: it takes one server, and none of a socket's."""
    host = settings.metabase_database_host or reader.get("host") or "localhost"
    port = str(settings.metabase_database_port or reader.get("port") or 5432)
    if "," in host or "," in port:
        raise SettingsError(
            "MART_READER_DSN names several servers, and Metabase takes one: set METABASE_DATABASE_HOST and "
            "METABASE_DATABASE_PORT to the one that it is to read"
        )
    if host.startswith(("/", "@")):
        raise SettingsError(
            f"MART_READER_DSN names a socket, {host}, and Metabase connects over TCP: set METABASE_DATABASE_HOST and "
            "METABASE_DATABASE_PORT"
        )
    return host, int(port)


def _open(api: Metabase, settings: Settings, say: Say, *, set_up: bool) -> bool:
    """Wait for Metabase and log in. False if it was fresh: set up now, or, if that is not wanted, not logged in."""
    api.wait_until_healthy(settings.metabase_timeout_seconds, say)
    properties = api.get("/api/session/properties")
    tag = str((properties.get("version") or {}).get("tag") or "of unknown version")
    if tag.split(".")[1:2] not in _VERSIONS:
        say(f"note: Metabase at {api.url} is {tag}, not a version that {COMPARED}")
    if not properties.get("has-user-setup"):
        if set_up:
            _set_up(api, settings, properties.get("setup-token"))
        return False
    if settings.metabase_api_key is not None:
        api.use_key(settings.metabase_api_key.get_secret_value())
        who = "the group of METABASE_API_KEY is not Administrators"
    else:
        who = _log_in(api, settings)
    if not api.get("/api/user/current").get("is_superuser"):
        raise MetabaseError(f"{who}: only an administrator may keep the cards")
    _warn_of_cache(api, say)
    return True


def _log_in(api: Metabase, settings: Settings) -> str:
    """Log in with the password. Gives what to say if the account may too little."""
    known = account.known_account(settings)
    if known is None:
        raise MetabaseError(
            f"Metabase at {api.url} is set up already, and nothing here knows its administrator: set "
            f"METABASE_API_KEY, or METABASE_ADMIN_EMAIL and METABASE_ADMIN_PASSWORD, or put back "
            f"{account.file(settings)}"
        )
    api.log_in(*known)
    return f"{known.email} is not an administrator of Metabase (METABASE_ADMIN_EMAIL)"


def _set_up(api: Metabase, settings: Settings, token: Any) -> None:
    if settings.metabase_api_key is not None:
        raise MetabaseError(
            f"Metabase at {api.url} is not set up, so it has no API key yet: run this once without METABASE_API_KEY, "
            "then make a key in Metabase"
        )
    if not token:
        raise MetabaseError(f"Metabase at {api.url} is not set up, but shows no setup token: set it up by hand")
    first = account.first_account(settings)
    api.set_up(str(token), first.email, first.password, site_name="Retail mart")


def _tell_of_copies(existing: Existing, say: Say) -> None:
    if existing.copies:
        count = len(existing.copies)
        names = ", ".join(existing.copies[:3]) + (", …" if count > 3 else "")
        say(f"note: {count} cop{'ies' if count > 1 else 'y'} of our questions left alone: {names}")


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
        trouble = None if health["status"] == "ok" else masked(str(health.get("message") or "no reason given"))
    collection = _collections(api, archived=False) or _collections(api, archived=True)
    trash = {"id": api.get("/api/collection/trash")["id"], "archived": True}
    board = identity.original(_items(api, collection, "dashboard"))
    board = board or identity.original(_items(api, trash, "dashboard"))
    dashboard = api.get(f"/api/dashboard/{board['id']}") if board else None
    tiles = (dashboard or {}).get("dashcards") or []
    found = identity.find(
        wanted.questions,
        listed=_items(api, collection, "card"),
        on_dashboard=[tile["card"] for tile in tiles if tile.get("card_id") and tile.get("card")],
        trashed=_items(api, trash, "card"),
    )
    return Existing(
        database=database,
        trouble=trouble,
        collection=collection,
        questions={key: api.get(f"/api/card/{number}", **_LEGACY) for key, number in found.ids.items()},
        surplus=found.surplus,
        copies=found.copies,
        access=_access(api, database["id"]) if database and collection else None,
        dashboard=dashboard,
    )


def _collections(api: Metabase, *, archived: bool) -> Any:
    listing = {"exclude-other-user-collections": "true", "personal-only": "false"}
    listed = api.get("/api/collection", archived=str(archived).lower(), **listing)
    return identity.original(one for one in listed if one["id"] != "root")


def _items(api: Metabase, collection: Any, model: str) -> list[dict[str, Any]]:
    """All cards or dashboards of a collection, page by page; none of one that is not there."""
    if collection is None:
        return []
    off = dict.fromkeys(("include_can_run_adhoc_query", "show_dashboard_questions"), "false")
    found: list[dict[str, Any]] = []
    while True:
        page = api.get(
            f"/api/collection/{collection['id']}/items",
            models=model,
            archived=str(bool(collection.get("archived"))).lower(),
            limit=str(_PAGE),
            offset=str(len(found)),
            **off,
        )["data"]
        found += page
        if len(page) < _PAGE:
            return found


def _access(api: Metabase, database_id: int) -> Access:
    return Access(
        groups=api.get("/api/permissions/group"),
        data=api.get(f"/api/permissions/graph/db/{database_id}"),
        collections=api.get("/api/collection/graph"),
    )


def _carry_out(
    api: Metabase, wanted: Wanted, existing: Existing, made: Sequence[Change], done: Callable[[Change], None]
) -> None:
    database_id = existing.database["id"] if existing.database else None
    collection_id = existing.collection["id"] if existing.collection else None
    card_ids = {key: card["id"] for key, card in existing.questions.items()}
    asked = {question.key: question for question in wanted.questions}
    for change in made:
        key = change.key or ""
        match change.kind, change.action:
            case "database", _:
                database_id = _keep_database(api, wanted, database_id)
            case "collection", _:
                collection_id = _keep_collection(api, collection_id)
            case "permissions", _:
                _keep_permissions(api, _id(database_id), _id(collection_id))
            case "question", "archive":
                card = api.put(f"/api/card/{change.card_id}", {"archived": True})
                _kept("question", change.name, [] if card.get("archived") else ["is not in the trash"])
            case "question", _:
                card_ids[key] = _keep_question(api, asked[key], card_ids.get(key), database_id, collection_id)
            case "dashboard", _:
                _keep_dashboard(api, wanted, existing, collection_id, card_ids)
        done(change)


def _kept(kind: str, name: str, notes: Iterable[str]) -> None:
    """Stop where Metabase's answer is not what it was sent, before the next thing is made and made again."""
    found = list(notes)
    if found:
        raise MetabaseError(
            f"Metabase did not keep what it was given: {kind} {name} ({'; '.join(found)}). Nothing more was sent. If "
            f"this is not a version that {COMPARED}, the program must be brought up to it"
        )


def _id(thing: Any) -> int:
    """The id of what Metabase created, or of what must be there by now."""
    number = thing.get("id") if isinstance(thing, dict) else thing
    if not isinstance(number, int):
        raise MetabaseError("Metabase did not answer with what it created: set METABASE_URL to Metabase itself")
    return number


def _keep_database(api: Metabase, wanted: Wanted, database_id: int | None) -> int:
    """Add or change the database, and have Metabase look at its tables. Metabase connects before it answers."""
    body: dict[str, Any] = {**plan.DATABASE, "details": dict(wanted.details)}
    try:
        if database_id is None:
            more = {"is_full_sync": True, "is_on_demand": False, "connection_source": "admin"}
            answer = api.post("/api/database", body | more)
            database_id = _id(answer)
        else:
            answer = api.put(f"/api/database/{database_id}", body)
        _kept("database", plan.DATABASE["name"], plan.database_notes(wanted, answer))
        api.post(f"/api/database/{database_id}/sync_schema")
    except MetabaseUnavailableError:
        raise
    except MetabaseError as error:
        where = f"{wanted.details['host']}:{wanted.details['port']}"
        raise MetabaseError(
            f"{error}. Metabase looked for PostgreSQL at {where} as {wanted.details['user']}: if that is not "
            "its address as seen from Metabase (from a container, localhost is the container), set "
            "METABASE_DATABASE_HOST and METABASE_DATABASE_PORT"
        ) from None
    return database_id


def _keep_collection(api: Metabase, collection_id: int | None) -> int:
    """Create the collection, or put it right; out of the trash, it brings what lay in it along."""
    if collection_id is None:
        answer = api.post("/api/collection", dict(plan.COLLECTION))
    else:
        answer = api.put(f"/api/collection/{collection_id}", {**plan.COLLECTION, "archived": False})
    _kept("collection", plan.COLLECTION["name"], plan.collection_notes(answer))
    return _id(answer)


def _keep_permissions(api: Metabase, database_id: int, collection_id: int) -> None:
    """Take away what goes too far, from the graphs as they are now: someone else may change them at the same time."""
    for attempt in range(_ATTEMPTS):
        found = _access(api, database_id)
        try:
            if access.native_groups(found, database_id):
                api.put("/api/permissions/graph", access.without_native(found, database_id))
            if access.editing_groups(found, collection_id):
                api.put("/api/collection/graph", access.read_only(found, collection_id))
            break
        except MetabaseConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
    left = access.notes(_access(api, database_id), database_id, collection_id)
    _kept("permissions", "of the database and the collection", left)


def _keep_question(
    api: Metabase, question: Question, card_id: int | None, database_id: int | None, collection_id: int | None
) -> int:
    body = question.body(database_id, collection_id)
    if card_id is None:
        answer = api.post("/api/card", {**body, "type": "question"})
    else:
        answer = api.put(f"/api/card/{card_id}", {**body, "archived": False})
    _kept("question", question.name, plan.question_notes(body, answer))
    return _id(answer)


def _keep_dashboard(
    api: Metabase, wanted: Wanted, existing: Existing, collection_id: int | None, card_ids: dict[str, int]
) -> None:
    name = plan.DASHBOARD["name"]
    if existing.dashboard is None:
        new = plan.new_dashboard_body(wanted)
        dashboard = api.post("/api/dashboard", {**new, "collection_id": collection_id})
        _kept("dashboard", name, plan.new_dashboard_notes(wanted, dashboard))
    else:
        path = f"/api/dashboard/{existing.dashboard['id']}"
        if existing.dashboard.get("archived"):  # Metabase takes no tiles for a dashboard that was in the trash
            api.put(path, {"archived": False, "collection_id": collection_id})
        dashboard = api.get(path)  # a question that came out of the trash has its tile again
    body = plan.dashboard_body(wanted, card_ids, plan.tile_ids(dashboard, card_ids))
    answer = api.put(f"/api/dashboard/{_id(dashboard)}", body)
    _kept("dashboard", name, plan.dashboard_notes(wanted, answer, card_ids))
