"""Our questions and dashboards are found again, whatever people did to them, and made once only."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.metabase.identity import MARK, find, is_ours
from dashboards.metabase.questions import key_of, questions
from tests.builders.metabase import applied, card, dashboard_of


def old_installation(metabase, runs):
    """As our earlier version left it on a real Metabase: the questions made at each run, none with a key."""
    originals = dict(metabase.cards)
    for one in originals.values():
        one["description"] = one["description"].split("\n\n")[0]
    for run in range(1, runs):
        for number, one in originals.items():
            metabase.cards[number + 1000 * run] = copy.deepcopy(one)


def unarchived(things):
    return [number for number, one in things.items() if not one["archived"]]


def test_an_old_installation_is_taken_over_and_its_surplus_archived(metabase, command_line):
    applied(command_line)
    old_installation(metabase, runs=3)
    # at its last run it had put the questions of that run on the dashboard
    for tile in dashboard_of(metabase)["dashcards"]:
        tile["card_id"] += 2000
    output = applied(command_line)
    assert output.count("- question") == 6
    assert len(unarchived(metabase.cards)) == 3
    assert all(number > 2000 for number in unarchived(metabase.cards)), "those on the dashboard stay, with their tiles"
    assert {key_of(metabase.cards[number]["description"]) for number in unarchived(metabase.cards)} == {
        "segments", "moves", "trend",
    }  # fmt: skip
    for _ in range(2):
        assert "no changes" in applied(command_line)
    assert (len(metabase.cards), len(metabase.dashboards), len(metabase.collections)) == (9, 1, 1)


def test_an_old_installation_whose_cards_have_changed_since(metabase, command_line):
    applied(command_line)
    old_installation(metabase, runs=2)
    for one in metabase.cards.values():
        one["description"] = f"As it was. {one['description']}"
    applied(command_line)
    assert len(unarchived(metabase.cards)) == 3
    assert "no changes" in applied(command_line)


def test_a_copy_keeps_the_key_and_is_left_alone(metabase, command_line):
    applied(command_line)
    original = metabase.number_of("Trend")
    made = metabase.copy_card(original)
    before = dict(metabase.cards[made])
    output = applied(command_line)
    assert "no changes" in output
    assert "1 copy of our questions left alone: Copy of Trend" in output
    del command_line.cards[2]
    applied(command_line)
    assert metabase.cards[original]["archived"]
    assert metabase.cards[made] == before
    assert "no changes" in applied(command_line), "not the copy's turn at the next run"


def test_a_question_in_another_collection_is_moved_back_while_it_is_on_the_dashboard(metabase, command_line):
    applied(command_line)
    number = metabase.number_of("Trend")
    (collection_id,) = metabase.collections
    metabase.collections[900] = metabase.collections[collection_id] | {"name": "Theirs", "description": None}
    metabase.cards[number]["collection_id"] = 900
    assert "is in another collection" in applied(command_line)
    assert metabase.cards[number]["collection_id"] == collection_id
    metabase.cards[number]["collection_id"] = 900
    dashboard_of(metabase)["dashcards"] = [
        tile for tile in dashboard_of(metabase)["dashcards"] if tile["card_id"] != number
    ]
    assert "+ question Trend" in applied(command_line), "taken off the dashboard too, it is theirs"
    assert metabase.cards[number]["collection_id"] == 900
    assert "no changes" in applied(command_line)


def test_a_second_dashboard_with_our_description_is_left_alone(metabase, command_line):
    applied(command_line)
    (number,) = metabase.dashboards
    metabase.dashboards[900] = copy.deepcopy(metabase.dashboards[number]) | {"name": "A copy"}
    before = copy.deepcopy(metabase.dashboards[900])
    assert "no changes" in applied(command_line)
    metabase.dashboards[number]["name"] = "Ours"
    applied(command_line)
    assert (metabase.dashboards[number]["name"], metabase.dashboards[900]) == ("Retail mart, live", before)


def test_a_dashboard_from_the_trash_keeps_its_address_and_tiles(metabase, command_line):
    applied(command_line)
    tiles = {tile["id"] for tile in dashboard_of(metabase)["dashcards"]}
    metabase.trash(dashboard_of(metabase))
    metabase.trash(metabase.card_named("Trend"))
    applied(command_line)
    assert {tile["id"] for tile in dashboard_of(metabase)["dashcards"]} == tiles
    assert unarchived(metabase.dashboards) == list(metabase.dashboards)
    assert "no changes" in applied(command_line)


def test_the_collection_comes_out_of_the_trash_with_all_that_is_in_it(metabase, command_line):
    applied(command_line)
    before = len(metabase.cards)
    metabase.trash_collection(next(iter(metabase.collections)))
    assert not unarchived(metabase.cards)
    applied(command_line)
    assert len(unarchived(metabase.cards)) == len(metabase.cards) == before
    assert (len(metabase.dashboards), len(metabase.collections)) == (1, 1)
    assert "no changes" in applied(command_line)


def test_questions_are_found_behind_a_page_of_others(metabase, command_line):
    applied(command_line)
    theirs = copy.deepcopy(metabase.card_named("Segments")) | {"description": None}
    metabase.cards |= {number: theirs | {"name": f"A {number}"} for number in range(5000, 5450)}
    metabase.calls.clear()
    assert "no changes" in applied(command_line)
    assert metabase.changing_calls == []


def test_a_name_alone_is_not_taken_from_another_collection(metabase, command_line):
    applied(command_line)
    theirs = copy.deepcopy(metabase.card_named("Trend")) | {"collection_id": None, "description": None}
    metabase.cards[900] = theirs
    dashboard_of(metabase)["dashcards"][2]["card_id"] = 900
    applied(command_line)
    assert metabase.cards[900] == theirs


@pytest.mark.parametrize(
    ("description", "key"),
    [
        ("One row.\n\nKept by `metabase apply` as now.revenue.", "now.revenue"),
        ("One row.\n\nKept by `metabase apply` as moves. \n", "moves"),
        ("Kept by `metabase apply` as moves. And more.", None),
        ("One row.", None),
        ("", None),
        (None, None),
    ],
)
def test_a_key_is_read_from_the_end_of_a_description(description, key):
    assert key_of(description) == key


def test_each_question_has_a_key_of_its_own_that_can_be_read_back():
    from dashboards.cards import cards

    found = questions(cards(), "Rp")
    assert [key_of(one.description) for one in found] == [one.key for one in found]
    assert len({one.key for one in found}) == len(found)
    assert MARK.startswith("Written by `retail-mart metabase apply`")


def test_what_an_earlier_version_made_is_ours():
    edits = "which overwrites edits made here."
    assert is_ours({"description": f"The cards. Written by `python -m dashboards metabase apply`, {edits}"})
    assert is_ours({"description": f"The cards. {MARK}"})
    assert not is_ours({"description": f"Written by hand, {edits}"})


DESCRIPTIONS = ("One row a thing.", "Theirs.", None)


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["A", "B"]), st.sampled_from(["a", "b", "gone", *DESCRIPTIONS])),
        max_size=12,
        unique_by=lambda one: one[0],
    ),
    st.lists(st.sampled_from(["listed", "on_dashboard", "trashed"]), min_size=12, max_size=12),
)
def test_no_question_is_two_things_and_a_key_is_always_followed(found, places):
    wanted = questions([card("a"), card("b")], "Rp")
    things = {"listed": [], "on_dashboard": [], "trashed": []}
    for (number, name, told), place in zip(found, places, strict=False):
        keyed = told in ("a", "b", "gone")
        description = f"D.\n\nKept by `metabase apply` as {told}." if keyed else told
        things[place].append({"id": number, "name": name, "description": description})
    result = find(wanted, **things)
    assert len(set(result.ids.values())) == len(result.ids)
    assert not set(result.ids.values()) & result.surplus.keys()
    assert result.surplus.keys() <= {one["id"] for one in things["listed"]}, "what lies elsewhere is not archived"
    everywhere = [one for place in things.values() for one in place]
    for question in wanted:
        keyed = [one["id"] for one in everywhere if key_of(one["description"]) == question.key]
        if keyed:
            assert result.ids[question.key] == min(keyed)
