"""The order in which the groups of one wave are written, so that foreign keys hold."""

from __future__ import annotations

from typing import Callable, Sequence

from connectors.rows import Group
from connectors.tables import Table


def in_order(groups: Sequence[Group], table: Callable[[str], Table]) -> list[Group]:
    """Order groups: deletes of tables that no other refers to, upserts (and marks) parents first, the other
    deletes children first.

    A child can so move to a new parent while its old one is deleted, and a row can take over the unique value
    of one that goes.
    """
    if len(groups) == 1:
        return list(groups)
    parents = {name: table(name).parents for name in {group.table for group in groups}}
    referred = {parent for name, above in parents.items() for parent in above if parent != name}
    depths = {name: _depth(name, parents, frozenset()) for name in parents}

    def rank(group: Group) -> tuple[int, int]:
        if group.kind in ("upsert", "mark", "replace"):
            return 1, depths[group.table]
        return (2 if group.table in referred else 0), -depths[group.table]

    return sorted(groups, key=rank)


def _depth(name: str, parents: dict[str, frozenset[str]], seen: frozenset[str]) -> int:
    above = [each for each in parents[name] if each in parents and each not in seen and each != name]
    return 1 + max(_depth(each, parents, seen | {name}) for each in above) if above else 0
