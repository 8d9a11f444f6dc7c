"""Who may do what in Metabase, with what one logs in, and that no secret is ever shown."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.settings import Settings
from dashboards.metabase import account
from tests.builders.metabase import BUILDER, EMAIL, NATIVE, READER, applied, card, kept_accounts, numbers, ours
from tests.dashboards.metabase.fake import ADMINISTRATORS, COMMON_PASSWORDS, EVERYONE

KEY = "mb_3kZ+secret/key="


def rights(metabase, group):
    database, collection = numbers(metabase)
    return metabase.data_rights[group, database]["create-queries"], metabase.collection_rights[group].get(collection)


def test_all_users_may_look_and_not_edit_and_send_no_sql_of_their_own(metabase, command_line):
    metabase.data_rights[EVERYONE, 1] = {"create-queries": NATIVE}
    applied(command_line)
    assert rights(metabase, EVERYONE) == (BUILDER, "read")
    assert metabase.collection_rights[EVERYONE]["root"] == "write", "other collections are not ours to change"
    assert metabase.data_rights[EVERYONE, 1]["create-queries"] == NATIVE, "nor are other databases"
    assert "no changes" in applied(command_line)


def test_no_group_but_the_administrators_may_send_sql(metabase, command_line):
    applied(command_line)
    analysts = metabase.add_group("Analysts")
    database, collection = numbers(metabase)
    metabase.data_rights[analysts, database]["create-queries"] = NATIVE
    metabase.collection_rights[analysts] = {collection: "write"}
    code, output = command_line("diff")
    assert (code, "Analysts: may send SQL of their own → may not" in output) == (3, True)
    applied(command_line)
    assert rights(metabase, analysts) == (BUILDER, "write"), "a group that was let into the collection stays in"
    assert (ADMINISTRATORS, database) not in metabase.data_rights, "nothing is said of the administrators"
    assert "no changes" in applied(command_line)


def test_rights_are_taken_and_never_given(metabase, command_line):
    applied(command_line)
    database, collection = numbers(metabase)
    metabase.data_rights[EVERYONE, database]["create-queries"] = "no"
    del metabase.collection_rights[EVERYONE][collection]
    assert "no changes" in applied(command_line)
    metabase.data_rights[EVERYONE, database]["create-queries"] = {"mart": BUILDER}
    assert "no changes" in applied(command_line)


def test_groups_of_a_metabase_that_names_no_magic_ones(metabase, command_line):
    for group in metabase.groups.values():
        del group["magic_group_type"]
    applied(command_line)
    assert rights(metabase, EVERYONE) == (BUILDER, "read")


@pytest.mark.parametrize("editors", [1, 2])
def test_someone_who_changes_rights_at_the_same_time_is_not_overwritten(metabase, command_line, editors):
    metabase.hasty_editors = editors
    applied(command_line)
    assert rights(metabase, EVERYONE) == (BUILDER, "read")


def test_someone_who_never_stops_changing_rights(metabase, command_line):
    metabase.hasty_editors = 99
    code, output = command_line("apply")
    assert (code, "someone else edited the permissions" in output) == (1, True)
    assert metabase.cards == {}, "nothing is put where everyone could edit it"
    metabase.hasty_editors = 0
    applied(command_line)


def test_rights_that_metabase_does_not_take_are_an_error(metabase, command_line, monkeypatch):
    monkeypatch.setattr(metabase, "_change_data_graph", lambda body: metabase._data_graph())
    code, output = command_line("apply")
    assert (code, "did not keep what it was given: permissions" in output) == (1, True)


def test_an_api_key_in_place_of_a_password(metabase, command_line, home, monkeypatch):
    applied(command_line)
    (home / "metabase.json").unlink()
    metabase.add_api_key(KEY)
    monkeypatch.setenv("METABASE_API_KEY", KEY)
    metabase.calls.clear()
    output = applied(command_line)
    assert "no changes" in output
    assert "log in as: your own account" in output
    assert {path for _, path in metabase.calls} & {"/api/session"} == set(), "no session is made, none is ended"
    command_line.cards.append(card("more"))
    assert "1 created" in applied(command_line)


def test_a_wrong_api_key_is_named_by_its_setting(metabase, command_line, monkeypatch):
    metabase.add_user(EMAIL, "right 1")
    monkeypatch.setenv("METABASE_API_KEY", KEY)
    code, output = command_line("apply")
    assert (code, "does not take the key of METABASE_API_KEY" in output) == (1, True)
    assert KEY not in output


def test_an_api_key_of_another_group_is_refused_before_anything_is_changed(metabase, command_line, monkeypatch):
    metabase.add_api_key(KEY, is_superuser=False)
    monkeypatch.setenv("METABASE_API_KEY", KEY)
    code, output = command_line("apply")
    assert (code, "the group of METABASE_API_KEY is not Administrators" in output) == (1, True)
    assert metabase.changing_calls == []


def test_a_fresh_metabase_has_no_api_key(metabase, command_line, home, monkeypatch):
    monkeypatch.setenv("METABASE_API_KEY", KEY)
    code, output = command_line("apply")
    assert (code, "run this once without METABASE_API_KEY" in output) == (1, True)
    assert (metabase.users, list(home.iterdir())) == ({}, [])


def test_too_many_wrong_passwords_are_told_from_a_wrong_one(metabase, command_line, monkeypatch):
    metabase.add_user(EMAIL, "right 1")
    monkeypatch.setenv("METABASE_ADMIN_PASSWORD", "wrong-secret")
    for _ in range(10):
        assert "does not take the password" in command_line("diff")[1]
    monkeypatch.setenv("METABASE_ADMIN_PASSWORD", "right 1")
    code, output = command_line("diff")
    assert code == 1
    assert "wants a pause after wrong passwords: username: Too many attempts! You must wait 15 seconds" in output


@pytest.mark.parametrize("password", [*sorted(COMMON_PASSWORDS)[:2], "Password1", 'a"b\\cdefg', "ab1"])
def test_a_password_that_metabase_refuses_is_not_shown(metabase, command_line, monkeypatch, password):
    """Its refusals quote what they were sent."""
    monkeypatch.setenv("METABASE_ADMIN_PASSWORD", password)
    code, output = command_line("apply")
    assert (code, "password is too common" in output) == (1, True)
    shown = output.replace(EMAIL, "")
    assert password not in shown
    assert password.replace("\\", "\\\\").replace('"', '\\"') not in shown
    assert metabase.users == {}


def test_the_readers_password_is_in_no_message_of_metabase(metabase, command_line, monkeypatch):
    applied(command_line)
    monkeypatch.setattr(metabase, "_trouble", lambda details: f"cannot use {details['password']}")
    code, output = command_line("diff")
    assert (code, "does not connect: cannot use ***" in output) == (3, True)
    assert READER["password"] not in output


def test_the_readers_password_is_in_no_refusal_of_metabase(metabase, command_line, monkeypatch):
    monkeypatch.setattr(metabase, "_trouble", lambda details: f"cannot use {details['password']}")
    code, output = command_line("apply")
    assert (code, "cannot use ***" in output) == (1, True)
    assert READER["password"] not in output


def test_a_database_out_of_reach_gets_the_hint_when_only_the_look_at_its_tables_fails(metabase, command_line):
    applied(command_line)
    ours(metabase)["details"]["schema-filters-patterns"] = "public"
    reachable = dict(metabase.postgres)
    sync = metabase._sync_schema

    def out_of_reach(number):
        metabase.postgres = reachable | {"host": "10.9.9.9"}
        return sync(number)

    metabase._sync_schema = out_of_reach
    code, output = command_line("apply")
    assert code == 1
    assert "sync_schema (422): Host '10.0.0.5' is not reachable" in output
    assert "set METABASE_DATABASE_HOST" in output


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=32, max_size=32))
def test_a_generated_password_passes_the_strictest_rule(token):
    """util/password.clj, complexity->char-type->min, strong"""

    class Tokens:
        token_urlsafe = staticmethod(lambda size: token)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account, "secrets", Tokens)
        patch.setattr(account, "known_account", lambda settings: None)
        patch.setattr(account, "_read", lambda settings: {})
        patch.setattr(account, "_write", lambda settings, accounts: None)
        password = account.first_account(Settings()).password
    for least, characters in ((2, "[a-z]"), (2, "[A-Z]"), (1, "[0-9]"), (1, "[^a-zA-Z0-9]"), (8, ".")):
        assert len(re.findall(characters, password)) >= least


def test_the_generated_password_is_what_metabase_was_given(metabase, command_line, home):
    applied(command_line)
    ((_, kept),) = kept_accounts(home).items()
    assert kept["password"] == metabase.users[EMAIL]["password"]
