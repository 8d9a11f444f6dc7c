"""The lake's copy of the mart's erasure list, in the lake's own log, so that landing does not need the mart. A change
of the list conflicts with every append prepared before it, and the append then looks again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from deltalake import DeltaTable

from mart.erasure_list import ErasureList

_SALT, _CUSTOMERS = "erasure.salt", "erasure.customers"


def lake_list(table: DeltaTable) -> ErasureList | None:
    """The copy in the version of the lake that `table` is at; None if the lake never got one."""
    return _from_properties(table.metadata().configuration)


def copy_to_lake(table: DeltaTable, listed: ErasureList) -> None:
    """Write the list to the lake unless it has it. Raises CommitFailedError if another commit came in between."""
    if lake_list(table) != listed:
        digests: Iterable[str] = sorted(listed.digests)
        properties = {_SALT: listed.salt, _CUSTOMERS: " ".join(digests)}
        table.alter.set_table_properties(properties, raise_if_not_exists=False)


def _from_properties(properties: Mapping[str, str | None]) -> ErasureList | None:
    salt = properties.get(_SALT)
    return None if salt is None else ErasureList(salt, frozenset((properties.get(_CUSTOMERS) or "").split()))
