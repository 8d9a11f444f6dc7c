"""`metabase apply` and `metabase diff` against a fake that is as strict as Metabase's source."""

import json
import stat

import pytest

from conf.settings import Settings
from dashboards.cards import cards
from tests.builders.metabase import EMAIL, NATIVE, READER, applied, card, dashboard_of, kept_accounts, numbers, ours
from tests.dashboards.metabase.fake import EVERYONE, FakeMetabase, RefusalError, serving


def test_a_fresh_metabase_is_set_up_and_filled(metabase, command_line, home):
    output = applied(command_line)
    ((email, user),) = metabase.users.items()
    assert (email, user["is_superuser"]) == (EMAIL, True)
    database = next(one for one in metabase.databases.values() if one["name"] == "Retail mart")
    assert database["engine"] == "postgres"
    assert {name: database["details"][name] for name in READER} == READER
    assert database["details"]["schema-filters-patterns"] == "mart"
    assert metabase.synced == [number for number, one in metabase.databases.items() if one is database]
    assert sorted(one["name"] for one in metabase.cards.values()) == ["Moves", "Segments", "Trend"]
    (collection_id,) = metabase.collections
    assert {one["collection_id"] for one in metabase.cards.values()} == {collection_id}
    board = dashboard_of(metabase)
    assert board["collection_id"] == collection_id
    assert [metabase.cards[tile["card_id"]]["name"] for tile in board["dashcards"]] == ["Segments", "Moves", "Trend"]
    assert [parameter["slug"] for parameter in board["parameters"]] == ["segment", "day"]
    assert "8 created" in output
    (number,) = metabase.dashboards
    assert f"/dashboard/{number}#refresh=1" in output
    assert metabase.sessions == {}, "it logs out"


def test_a_second_apply_says_no_changes_and_only_reads(metabase, command_line):
    applied(command_line)
    metabase.calls.clear()
    output = applied(command_line)
    assert "no changes" in output
    assert metabase.changing_calls == []
    assert {call for call in metabase.calls if call[0] != "GET"} == {
        ("POST", "/api/session"),
        ("DELETE", "/api/session"),
    }


def test_the_kept_cards_of_the_project_reach_a_standstill_too(metabase, command_line):
    command_line.cards = cards()
    applied(command_line)
    count = len(metabase.cards)
    assert count > len(command_line.cards), "the headline's figures are a question each"
    for _ in range(2):
        metabase.calls.clear()
        assert "no changes" in applied(command_line)
        assert (len(metabase.cards), metabase.changing_calls) == (count, [])


def test_each_filter_sets_the_variable_of_the_queries_that_it_fits(metabase, command_line):
    applied(command_line)
    board = dashboard_of(metabase)
    parameters = {parameter["id"]: parameter["slug"] for parameter in board["parameters"]}
    wired = {}
    for tile in board["dashcards"]:
        held = metabase.cards[tile["card_id"]]
        native = held["dataset_query"]["native"]
        slugs = []
        for mapping in tile["parameter_mappings"]:
            _, (_, variable) = mapping["target"]
            assert f"{{{{{variable}}}}}" in native["query"]
            assert native["template-tags"][variable]["name"] == variable
            assert mapping["card_id"] == tile["card_id"]
            slugs.append(parameters[mapping["parameter_id"]])
        assert sorted(native["template-tags"]) == sorted(slugs)
        wired[held["name"]] = slugs
    assert wired == {"Segments": ["segment"], "Moves": [], "Trend": ["segment", "day"]}


def test_an_edited_card_is_updated_and_nothing_else(metabase, command_line):
    applied(command_line)
    before = json.dumps(dashboard_of(metabase))
    number = next(n for n, one in metabase.cards.items() if one["name"] == "Segments")
    command_line.cards[0] = card("segments", sql="SELECT 1 AS customer_segment, 2 AS customers", title="All segments")
    code, output = command_line("diff")
    assert (code, "~ question All segments" in output) == (3, True)
    assert 'name: "Segments" → "All segments"' in output
    assert "+ SELECT 1 AS customer_segment, 2 AS customers" in output
    metabase.calls.clear()
    assert "1 updated" in applied(command_line)
    assert metabase.changing_calls == [("PUT", f"/api/card/{number}")]
    assert metabase.cards[number]["name"] == "All segments"
    assert json.dumps(dashboard_of(metabase)) == before
    assert "no changes" in applied(command_line)


def test_a_removed_card_is_archived_and_comes_back_as_the_same_question(metabase, command_line):
    applied(command_line)
    gone = command_line.cards.pop(0)
    number = next(n for n, one in metabase.cards.items() if one["name"] == "Segments")
    output = applied(command_line)
    assert "- question Segments" in output
    assert metabase.cards[number]["archived_directly"]
    assert number not in [tile["card_id"] for tile in dashboard_of(metabase)["dashcards"]]
    assert "no changes" in applied(command_line)
    command_line.cards.insert(0, gone)
    code, output = command_line("diff")
    assert (code, "is in the trash" in output) == (3, True)
    applied(command_line)
    assert not metabase.cards[number]["archived"]
    tiles = [tile["card_id"] for tile in dashboard_of(metabase)["dashcards"]]
    assert (tiles.count(number), len(metabase.cards)) == (1, 3)
    assert "no changes" in applied(command_line)


def test_a_card_put_before_others_keeps_their_tiles(metabase, command_line):
    applied(command_line)
    ids = {tile["card_id"]: tile["id"] for tile in dashboard_of(metabase)["dashcards"]}
    command_line.cards.insert(0, card("new"))
    applied(command_line)
    after = {tile["card_id"]: tile["id"] for tile in dashboard_of(metabase)["dashcards"]}
    assert ids.items() < after.items()
    assert "no changes" in applied(command_line)


EDITS = [
    (lambda m: m.card_named("Trend").update(display="bar"), 'display: "bar" → "line"'),
    (lambda m: m.card_named("Trend")["visualization_settings"].update({"graph.colors": ["red"]}), "graph.colors"),
    (lambda m: m.card_named("Trend").update(collection_id=None), "is in another collection"),
    (lambda m: m.trash(m.card_named("Trend")), "is in the trash"),
    (lambda m: m.card_named("Trend").update(description="Ours"), 'description: "Ours" → "One row a thing'),
    (lambda m: m.card_named("Trend").update(description=None), 'description: nothing → "One row a thing'),
    (lambda m: m.trash(dashboard_of(m)), "is in the trash"),
    (lambda m: m.trash_collection(next(iter(m.collections))), "is in the trash"),
    (
        lambda m: m.data_rights[EVERYONE, numbers(m)[0]].update({"create-queries": NATIVE}),
        "All Users: may send SQL",
    ),
    (
        lambda m: m.collection_rights[EVERYONE].update({numbers(m)[1]: "write"}),
        "All Users: may edit the collection",
    ),
    (lambda m: m.card_named("Trend").update(parameters=[]), "has other filters"),
    (lambda m: m.card_named("Trend")["dataset_query"].update(database=1), "asks another database"),
    (lambda m: dashboard_of(m).update(name="Ours"), 'name: "Ours" → "Retail mart, live"'),
    (lambda m: dashboard_of(m)["dashcards"][0].update(col=3), "Segments: lies elsewhere"),
    (lambda m: dashboard_of(m)["dashcards"].pop(), "Trend: is not on it"),
    (lambda m: dashboard_of(m)["dashcards"].append({**dashboard_of(m)["dashcards"][0], "id": 900}), "on it twice"),
    (lambda m: dashboard_of(m).update(tabs=[{"id": 1, "name": "A tab"}]), "has tabs"),
    (lambda m: dashboard_of(m)["parameters"].pop(), "has other filters"),
    (lambda m: next(iter(m.collections.values())).update(name="Renamed"), 'name: "Renamed" → "Retail mart"'),
    (lambda m: ours(m)["details"].update({"schema-filters-patterns": "public"}), '"public" → "mart"'),
]


@pytest.mark.parametrize(("edit", "note"), EDITS, ids=[note for _, note in EDITS])
def test_what_was_edited_in_metabase_is_shown_and_put_back(metabase, command_line, edit, note):
    applied(command_line)
    edit(metabase)
    code, output = command_line("diff")
    assert (code, note in output) == (3, True), output
    before = len(metabase.calls)
    assert command_line("diff")[0] == 3
    assert not [call for call in metabase.calls[before:] if call[0] == "PUT"], "diff only reads"
    applied(command_line)
    assert command_line("diff") == (0, "no changes\n")
    assert (len(metabase.cards), len(metabase.dashboards), len(metabase.collections)) == (3, 1, 1)


def test_what_others_keep_in_the_collection_is_left_alone(metabase, command_line):
    applied(command_line)
    (collection_id,) = metabase.collections
    unarchived = {"archived": False, "archived_directly": False}
    theirs = {
        "name": "Mine",
        "description": "Mine.",
        "entity_id": "x" * 21,
        "collection_id": collection_id,
    } | unarchived
    more = {
        "display": "table",
        "dataset_query": {"database": 1, "native": {"query": "SELECT 1"}},
        "visualization_settings": {},
        "parameters": [],
    }
    metabase.cards[500] = theirs | more
    metabase.dashboards[501] = {
        "name": "Mine",
        "description": None,
        "entity_id": "y" * 21,
        "collection_id": collection_id,
        **unarchived,
    }
    assert "no changes" in applied(command_line)
    # a tile of theirs on our dashboard does not stay, their question does
    dashboard_of_ours = metabase.dashboards[min(metabase.dashboards)]
    tile = {"id": 900, "card_id": 500, "row": 90, "col": 0, "size_x": 4, "size_y": 4}
    dashboard_of_ours["dashcards"].append(tile)
    assert "1 tile that no card makes" in applied(command_line)
    assert not metabase.cards[500]["archived"]


def test_diff_of_a_fresh_metabase_lists_everything_and_creates_nothing(metabase, command_line, home):
    code, output = command_line("diff")
    assert code == 3
    for line in (
        "+ administrator",
        "+ database Retail mart",
        "+ question Trend",
        "+ permissions",
        "+ dashboard",
        "8 to create",
    ):
        assert line in output
    assert metabase.changing_calls == []
    assert (metabase.users, list(home.iterdir())) == ({}, [])


def test_a_generated_password_is_kept_for_its_owner_alone_and_never_shown(metabase, command_line, home):
    output = applied(command_line)
    kept = home / "metabase.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    ((url, account),) = kept_accounts(home).items()
    assert url.startswith("http://127.0.0.1:")
    assert metabase.users[EMAIL]["password"] == account["password"]
    assert account["password"] not in output
    assert f"log in as: {EMAIL}, password in {kept}" in output
    assert READER["password"] not in output
    assert [path.name for path in home.iterdir()] == ["metabase.json"]


def test_a_password_from_the_environment_is_used_and_not_kept(metabase, command_line, home, monkeypatch):
    monkeypatch.setenv("METABASE_ADMIN_EMAIL", "boss@shop.example")
    monkeypatch.setenv("METABASE_ADMIN_PASSWORD", "correct horse 1")
    applied(command_line)
    assert metabase.users["boss@shop.example"]["password"] == "correct horse 1"
    assert not (home / "metabase.json").exists()
    assert "log in as: boss@shop.example, password METABASE_ADMIN_PASSWORD" in applied(command_line)


def test_another_metabase_keeps_its_own_generated_password(metabase, command_line, home, monkeypatch):
    applied(command_line)
    other = FakeMetabase(READER)
    with serving(other) as url:
        monkeypatch.setenv("METABASE_URL", url)
        applied(command_line)
    assert other.violations == []
    passwords = {account["password"] for account in kept_accounts(home).values()}
    assert passwords == {metabase.users[EMAIL]["password"], other.users[EMAIL]["password"]}
    assert len(passwords) == 2


def test_a_set_up_cut_short_goes_on_with_the_password_that_was_written_first(metabase, command_line, home):
    metabase.setup_token = None
    code, output = command_line("apply")
    assert (code, "shows no setup token" in output) == (1, True)
    metabase.setup_token = "token"
    command_line.cards[0] = card("segments", sql="SELECT '{{segment}}'")
    code, output = command_line("apply")
    assert (code, "Metabase reads `{{` as its own" in output) == (1, True)
    assert metabase.users == {}, "a wrong card is refused before anything is created"
    metabase.postgres = {**READER, "password": "another"}
    command_line.cards[0] = card("segments")
    code, output = command_line("apply")
    assert code == 1
    assert "set METABASE_DATABASE_HOST" in output
    password = metabase.users[EMAIL]["password"]
    metabase.postgres = READER
    applied(command_line)
    assert metabase.users[EMAIL]["password"] == password


def test_a_new_password_of_the_reader_reaches_metabase(metabase, command_line, monkeypatch):
    applied(command_line)
    metabase.postgres = {**READER, "password": "renewed"}
    monkeypatch.setenv("MART_READER_DSN", "postgresql://analytics_reader:renewed@127.0.0.1:5433/mart")
    code, output = command_line("diff")
    assert (code, "does not connect: FATAL: password authentication failed" in output) == (3, True)
    assert "~ database Retail mart" in applied(command_line)
    assert ours(metabase)["details"]["password"] == "renewed"
    assert "no changes" in applied(command_line)


def test_tls_that_metabase_prefers_is_no_difference(metabase, command_line):
    metabase.offers_tls = True
    applied(command_line)
    assert ours(metabase)["details"]["ssl"] is True
    assert "no changes" in applied(command_line)


def test_tls_that_the_dsn_demands_is_demanded_of_metabase(metabase, command_line, monkeypatch):
    monkeypatch.setenv("MART_READER_DSN", "postgresql://analytics_reader:sec%2Fret@db:5433/mart?sslmode=require")
    code, output = command_line("apply")
    assert (code, "The server does not support SSL" in output) == (1, True)
    metabase.offers_tls = True
    applied(command_line)
    assert ours(metabase)["details"]["ssl-mode"] == "require"


def test_metabase_is_waited_for(metabase, command_line):
    metabase.starting = 2
    output = applied(command_line)
    assert output.count("waiting for Metabase") == 1
    assert "initializing" in output


def test_notes_of_another_version_and_of_a_cache(metabase, command_line):
    applied(command_line)
    metabase.version = "v0.65.2"
    assert "not a version" not in applied(command_line)
    metabase.version = "v0.57.2"
    metabase.cache_policies = [{"model": "root", "model_id": 0, "strategy": {"type": "ttl", "multiplier": 10}}]
    output = applied(command_line)
    assert "is v0.57.2, not a version that was compared with the source (0.58 to 0.65" in output
    assert "Metabase caches results (ttl)" in output


def test_unavailable(command_line, monkeypatch):
    monkeypatch.setenv("METABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("METABASE_TIMEOUT_SECONDS", "0.1")
    for command in ("apply", "diff"):
        code, output = command_line(command)
        assert code == 4
        assert "Metabase at http://127.0.0.1:9 is not ready" in output
        assert "set METABASE_URL" in output


def test_set_up_by_someone_else_asks_for_the_account(metabase, command_line, home):
    metabase.add_user("someone@shop.example", "unknown 1")
    code, output = command_line("apply")
    assert code == 1
    assert "is set up already" in output
    assert "METABASE_ADMIN_PASSWORD" in output
    assert str(home / "metabase.json") in output.replace("\n", "")


def test_a_wrong_password_names_the_settings(metabase, command_line, monkeypatch):
    metabase.add_user(EMAIL, "right 1")
    monkeypatch.setenv("METABASE_ADMIN_PASSWORD", "wrong-secret")
    code, output = command_line("apply")
    assert (code, f"does not take the password of {EMAIL}" in output) == (1, True)
    assert "wrong-secret" not in output


def test_a_person_who_is_no_administrator_is_refused_before_anything_is_changed(metabase, command_line, monkeypatch):
    metabase.add_user(EMAIL, "right 1", is_superuser=False)
    monkeypatch.setenv("METABASE_ADMIN_PASSWORD", "right 1")
    code, output = command_line("apply")
    assert (code, f"{EMAIL} is not an administrator" in output) == (1, True)
    assert metabase.changing_calls == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MART_READER_DSN", "", "MART_READER_DSN is not set: Metabase reads the mart as analytics_reader"),
        ("MART_READER_DSN", "postgresql://analytics_reader@db/mart", "MART_READER_DSN names no password"),
        ("MART_READER_DSN", "nonsense", "PostgreSQL cannot read it"),
        (
            "MART_READER_DSN",
            "postgresql://r:secret@db1:5432,db2:5433/mart",
            "Metabase takes one: set METABASE_DATABASE",
        ),
        ("MART_READER_DSN", "postgresql://r:secret@db1,db2/mart", "Metabase takes one: set METABASE_DATABASE_HOST"),
        ("MART_DSN", "postgresql://analytics_reader:x@db/mart", "logs in as analytics_reader, the writer of MART_DSN"),
        ("METABASE_URL", "localhost:3000", "give it like http://127.0.0.1:3000"),
        ("METABASE_DATABASE_PORT", "70000", "METABASE_DATABASE_PORT"),
    ],
)
def test_wrong_settings_are_refused_before_metabase_is_asked(metabase, command_line, monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    code, output = command_line("apply")
    assert code == 1
    assert says in " ".join(output.split())
    assert metabase.calls == []


def test_a_socket_is_no_address_for_metabase(metabase, command_line, monkeypatch):
    monkeypatch.delenv("METABASE_DATABASE_HOST", raising=False)
    monkeypatch.setenv("MART_READER_DSN", "postgresql://r:secret@%2Frun%2Fpostgresql/mart")
    code, output = command_line("apply")
    assert (code, metabase.calls) == (1, [])
    assert "names a socket, /run/postgresql, and Metabase connects over TCP" in " ".join(output.split())


def test_a_damaged_file_of_passwords_is_not_overwritten(metabase, command_line, home):
    (home / "metabase.json").write_text("[]")
    code, output = command_line("apply")
    assert (code, "cannot be read as accounts" in output) == (1, True)
    assert (home / "metabase.json").read_text() == "[]"


def test_what_metabase_does_not_keep_is_an_error(metabase, command_line, monkeypatch):
    """As from a version that changes what it is given: better an error than a change at every run."""
    add = metabase._add_card
    monkeypatch.setattr(metabase, "_add_card", lambda body: add({**body, "display": "table"}))
    code, output = command_line("apply")
    assert code == 1
    assert "Metabase did not keep what it was given: question Segments" in output
    assert 'display: "table" → "bar"' in output
    assert (len(metabase.cards), len(metabase.dashboards)) == (1, 0), "it stops before the next is made"


def test_the_settings_are_documented():
    for name in (
        "metabase_url",
        "metabase_admin_email",
        "metabase_admin_password",
        "metabase_api_key",
        "metabase_database_host",
    ):
        assert Settings.model_fields[name].description


def test_an_apply_that_broke_off_goes_on_where_it_was(metabase, command_line, monkeypatch):
    add = metabase._add_card

    def fail_at_the_third(body):
        if body["name"] == "Trend":
            raise RefusalError(500, {"message": "out of memory"})
        return add(body)

    monkeypatch.setattr(metabase, "_add_card", fail_at_the_third)
    code, output = command_line("apply")
    assert (code, "out of memory" in output) == (1, True)
    assert (len(metabase.cards), len(metabase.dashboards)) == (2, 0)
    monkeypatch.setattr(metabase, "_add_card", add)
    assert "2 created" in applied(command_line)
    assert (len(metabase.cards), len(metabase.dashboards), len(metabase.collections)) == (3, 1, 1)
    assert "no changes" in applied(command_line)
