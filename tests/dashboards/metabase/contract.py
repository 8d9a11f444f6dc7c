"""Metabase's API as its OpenAPI document describes it: whether a request or an answer is one of it."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT = Path(__file__).with_name("api_v1.58.json")
_URI = "urn:metabase-api"
_JSON = ("content", "application/json", "schema")


class Operation(NamedTuple):
    """A documented operation, where it stands in the document, and the values of its path's parameters."""

    declared: dict[str, Any]
    pointer: tuple[str, ...]
    path_values: dict[str, str]


class Contract:
    """The document, asked about one request or answer at a time; each method returns what is wrong, in words."""

    def __init__(self, document: dict[str, Any] | None = None) -> None:
        self._document = document or json.loads(DOCUMENT.read_text(encoding="utf-8"))
        self._registry: Registry = Registry().with_resource(
            _URI, Resource(contents=self._document, specification=DRAFT202012)
        )
        self._validators: dict[tuple[str, ...], Draft202012Validator] = {}

    @property
    def version(self) -> str:
        return str(self._document["info"]["version"])

    def operations(self) -> set[tuple[str, str]]:
        """(method, path) of each documented operation."""
        return {(method.upper(), path) for path, item in self._document["paths"].items() for method in item}

    def operation(self, method: str, path: str) -> Operation | None:
        """The documented operation that a request is for; the path with the fewest parameters wins."""
        for template in sorted(self._document["paths"], key=lambda one: one.count("{")):
            match = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)), path)
            declared = self._document["paths"][template].get(method.lower())
            if match and declared is not None:
                return Operation(declared, ("paths", template, method.lower()), match.groupdict())
        return None

    def wrong_request(self, method: str, path: str, query: list[tuple[str, str]], body: Any) -> list[str]:
        found = self.operation(method, path)
        if found is None:
            return [f"{method} {path} is not documented"]
        wrong = self._wrong_parameters(found, query)
        declared = found.declared.get("requestBody")
        if declared is None:
            return wrong + (["a body where none is documented"] if body is not None else [])
        return wrong + self._errors((*found.pointer, "requestBody", *_JSON), body)

    def wrong_answer(self, method: str, path: str, body: Any) -> list[str]:
        """What is wrong with the body of a successful answer."""
        found = self.operation(method, path)
        if found is None:
            return [f"{method} {path} is not documented"]
        if "content" not in found.declared["responses"]["2XX"]:
            return [] if body is None else ["a body where none is documented"]
        return self._errors((*found.pointer, "responses", "2XX", *_JSON), body)

    def _wrong_parameters(self, found: Operation, query: list[tuple[str, str]]) -> list[str]:
        wrong = []
        documented = {"path": found.path_values, "query": dict(query)}
        for number, parameter in enumerate(found.declared["parameters"]):
            given = documented[parameter["in"]].get(parameter["name"])
            if given is None:
                if parameter["required"]:
                    wrong.append(f"parameter {parameter['name']} is missing")
                continue
            pointer = (*found.pointer, "parameters", str(number), "schema")
            # a text that can be read as the declared type is one; Metabase takes a lone value for a list
            if all(self._errors(pointer, value) for value in (given, _parsed(given), [given])):
                wrong.append(f"parameter {parameter['name']}: {given!r} is not {parameter['schema']}")
        known = {parameter["name"] for parameter in found.declared["parameters"] if parameter["in"] == "query"}
        return wrong + [f"parameter {name} is not documented" for name, _ in query if name not in known]

    def _errors(self, pointer: tuple[str, ...], value: Any) -> list[str]:
        if pointer not in self._validators:
            fragment = "/".join(quote(part.replace("~", "~0").replace("/", "~1"), safe="~") for part in pointer)
            reference = {"$ref": f"{_URI}#/{fragment}"}
            self._validators[pointer] = Draft202012Validator(reference, registry=self._registry)
        validator = self._validators[pointer]
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
