"""Permissions in Metabase on what is ours. Sends nothing.

Everyone may view the collection, only administrators may edit it, and only administrators may run their own SQL on the
mart's database: saved questions run for anyone who may read them. Permissions are only revoked here, never granted: a
collection that nobody may see stays that way, and so does a group that may not query at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# names before Metabase told its own groups by `magic_group_type`, and with it
_ADMINISTRATORS = ("admin", "Administrators")
_EVERYONE = ("all-internal-users", "All Users")
_NATIVE, _BUILDER = "query-builder-and-native", "query-builder"

Graph = Mapping[str, Any]


@dataclass(frozen=True)
class Access:
    """The groups, and the graphs of the mart's database and of all collections, as Metabase's API returns them.

    A graph has a `revision`, which is sent back with a change and refused if someone else was faster, and `groups`: by
    the group's id its permissions, by the id of the database or the collection.
    """

    groups: Sequence[Mapping[str, Any]]
    data: Graph
    collections: Graph


def native_groups(access: Access, database_id: int) -> dict[str, str]:
    """By id the names of the groups, without the administrators, that may send SQL of their own to the database."""
    may = access.data.get("groups") or {}
    return {
        str(group["id"]): str(group["name"])
        for group in access.groups
        if not _is(group, _ADMINISTRATORS)
        and ((may.get(str(group["id"])) or {}).get(str(database_id)) or {}).get("create-queries") == _NATIVE
    }


def editing_groups(access: Access, collection_id: int) -> dict[str, str]:
    """By id the name of the group of all users, if it may edit the collection; empty if it may not."""
    may = access.collections.get("groups") or {}
    return {
        str(group["id"]): str(group["name"])
        for group in access.groups
        if _is(group, _EVERYONE) and (may.get(str(group["id"])) or {}).get(str(collection_id)) == "write"
    }


def without_native(access: Access, database_id: int) -> dict[str, Any]:
    """The change as `PUT /api/permissions/graph` takes it: what is not in it stays as it is."""
    only = {str(database_id): {"create-queries": _BUILDER}}
    return {"revision": access.data["revision"], "groups": dict.fromkeys(native_groups(access, database_id), only)}


def read_only(access: Access, collection_id: int) -> dict[str, Any]:
    """The change as `PUT /api/collection/graph` takes it: what is not in it stays as it is."""
    only = {str(collection_id): "read"}
    return {
        "revision": access.collections["revision"],
        "groups": dict.fromkeys(editing_groups(access, collection_id), only),
    }


def notes(access: Access, database_id: int, collection_id: int) -> list[str]:
    """A line for each right that goes too far."""
    return [
        *(f"{name}: may send SQL of their own → may not" for name in native_groups(access, database_id).values()),
        *(f"{name}: may edit the collection → may read it" for name in editing_groups(access, collection_id).values()),
    ]


def _is(group: Mapping[str, Any], kind: tuple[str, str]) -> bool:
    magic, name = kind
    told = group.get("magic_group_type")
    return told == magic or (told is None and group.get("name") == name)
