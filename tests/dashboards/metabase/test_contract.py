"""The contract itself: it must be able to fail, or the other tests say nothing."""

import copy

import pytest

from tests.dashboards.metabase.contract import Contract

CARD = {
    "name": "Customers by segment",
    "display": "bar",
    "dataset_query": {"database": 2, "type": "native", "native": {"query": "SELECT 1"}},
    "visualization_settings": {},
}
TILE = {"id": -1, "card_id": 3, "row": 0, "col": 0, "size_x": 12, "size_y": 6}
PARAMETER = {"id": "mart_day", "type": "date/single"}
contract = Contract()


def test_the_document_is_of_the_version_that_the_code_names():
    from dashboards.metabase.main import API_VERSION

    assert contract.version == f"v1.{API_VERSION}.0-SNAPSHOT"


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("POST", "/api/card", [], CARD),
        ("GET", "/api/card/retail-mart_VhcqqG833", [("legacy-mbql", "true")], None),
        ("GET", "/api/card/7", [], None),
        ("GET", "/api/user/current", [], None),
        ("GET", "/api/collection/trash", [], None),
        ("PUT", "/api/permissions/graph", [], {"revision": 1, "groups": {"1": {"2": {"create-queries": "no"}}}}),
        ("PUT", "/api/collection/graph", [], {"revision": 1, "groups": {"1": {"3": "read", "root": "write"}}}),
        ("PUT", "/api/dashboard/7", [], {"dashcards": [TILE], "parameters": [PARAMETER], "tabs": []}),
    ],
)
def test_what_is_documented_passes(method, path, query, body):
    assert contract.wrong_request(method, path, query, body) == []


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "says"),
    [
        ("POST", "/api/question", [], CARD, "not documented"),
        ("DELETE", "/api/card", [], None, "not documented"),
        ("POST", "/api/card", [], None, "None is not of type 'object'"),
        ("POST", "/api/card", [], {**CARD, "display": ""}, "$.display"),
        ("POST", "/api/card", [], {**CARD, "name": None}, "$.name"),
        ("POST", "/api/card", [], {**CARD, "colour": "red"}, "'colour' was unexpected"),
        ("POST", "/api/card", [], {key: CARD[key] for key in CARD if key != "dataset_query"}, "'dataset_query'"),
        ("POST", "/api/card", [], {**CARD, "type": "chart"}, "$.type"),
        ("POST", "/api/card", [], {**CARD, "collection_id": 0}, "$.collection_id"),
        ("GET", "/api/card/not-a-nano-id", [], None, "parameter id"),
        ("GET", "/api/card/7", [("legacy_mbql", "true")], None, "legacy_mbql is not documented"),
        ("GET", "/api/card/7", [("legacy-mbql", "perhaps")], None, "parameter legacy-mbql"),
        ("GET", "/api/card/7", [], {}, "a body where none"),
        ("GET", "/api/collection/7/items", [("models", "card")], None, "parameter archived is missing"),
        ("PUT", "/api/collection/7", [], {"name": "Retail mart"}, "'archived' is a required property"),
        ("PUT", "/api/dashboard/7", [], {"dashcards": [{**TILE, "size_x": 0}]}, "$.dashcards"),
        ("PUT", "/api/dashboard/7", [], {"dashcards": [{**TILE, "sizeX": 4}]}, "$.dashcards"),
        ("PUT", "/api/dashboard/7", [], {"parameters": [{**PARAMETER, "type": "day"}]}, "$.parameters"),
        (
            "PUT",
            "/api/dashboard/7",
            [],
            {"dashcards": [{**TILE, "parameter_mappings": [{"parameter_id": "a", "target": ["variable", "day"]}]}]},
            "$.dashcards",
        ),
        ("PUT", "/api/permissions/graph", [], {"groups": {"All Users": {}}}, "'All Users'"),
        ("PUT", "/api/collection/graph", [], {"groups": {"1": {"3": "edit"}}}, "'edit' is not one of"),
        ("PUT", "/api/database/2", [], {"is_full_sync": True}, "'is_full_sync' was unexpected"),
        ("POST", "/api/setup", [], {"token": "t", "user": {"email": "a@b.example"}, "prefs": {}}, "'password'"),
    ],
)
def test_what_is_not_documented_is_found(method, path, query, body, says):
    assert says in " ".join(contract.wrong_request(method, path, query, body))


def test_an_answer_that_lacks_what_is_read_from_it_is_found():
    card = {
        "id": 3, "entity_id": "retail-mart_VhcqqG833", "name": "A", "display": "bar", "archived": False,
        "collection_id": None, "dataset_query": {}, "visualization_settings": {},
    }  # fmt: skip
    assert contract.wrong_answer("GET", "/api/card/3", card) == []
    for name in ("id", "dataset_query"):
        without = copy.deepcopy(card)
        del without[name]
        assert name in " ".join(contract.wrong_answer("GET", "/api/card/3", without))
    assert contract.wrong_answer("DELETE", "/api/session", {"id": "x"}) == ["a body where none is documented"]
