"""What sampled hashes have in common: key templates, and the fields of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.drafts import clusters
from deploy.drafts.clusters import VARIES, Cluster, Parts
from deploy.drafts.draft import LeftOut
from deploy.drafts.kinds import Profile
from deploy.output import counted
from gears.declaring.mapping import is_text
from gears.declaring.template import Template

#: Hashes of one kind have few fields; with more, names of fields are values themselves.
_MOST_FIELDS = 200
#: As many kinds that differ in one word only are one kind, in which the word varies.
_SIBLINGS = 3
_MOST_PARTS = 40
#: What is left out is named one by one up to so many.
_MOST_NAMED = 20

#: By its name a field that may repeat a part of the key; another one may be equal by chance.
_OF_KEY = re.compile("(^|_)(id|key|uuid|pk)$")

Hashes = Mapping[bytes, Mapping[bytes, bytes]]


@dataclass
class Kind:
    """One kind of hash. ``keys`` is how many were sampled, ``fields`` their profiles by name."""

    template: str
    parts: Parts
    names: list[str]
    keys: int
    key_profiles: dict[str, Profile]
    fields: dict[str, Profile]
    notes: list[str] = field(default_factory=list)


def kinds_of(hashes: Hashes) -> tuple[list[Kind], list[LeftOut]]:
    """Return the kinds of hashes, the most frequent first, and the keys that are of none."""
    names = {_text(key): key for key in hashes}
    readable = [key for key in names if is_text(key) and len(clusters.split(key)) <= _MOST_PARTS]
    found = _with_siblings(clusters.cluster(readable), hashes)
    kinds, left_out = [], []
    if len(readable) < len(hashes):
        count = counted(len(hashes) - len(readable), "key")
        left_out.append(LeftOut(count, "they are no UTF-8 texts, or have too many parts"))
    for each in found:
        if not each.is_kind:
            shown = each.keys[0] if len(each.keys) == 1 else f"{each.keys[0]} and {len(each.keys) - 1} more"
            reason = "no part of the key varies" if VARIES not in each.parts else "no word tells its kind"
            left_out.append(LeftOut(shown, reason, "write the key template yourself, if they are rows"))
            continue
        kind = kind_of(each.parts, [key.encode() for key in each.keys], hashes)
        if len(kind.fields) > _MOST_FIELDS:
            reason = (
                f"its hashes have {len(kind.fields)} different fields, which seem to be values themselves"
            )
            left_out.append(LeftOut(kind.template, reason))
        elif not any(map(is_text, kind.fields)):
            left_out.append(LeftOut(kind.template, "no field of its hashes has a name that is a UTF-8 text"))
        else:
            kinds.append(kind)
    if len(left_out) > _MOST_NAMED:
        rest = LeftOut("and more", f"{len(left_out) - _MOST_NAMED} others of these sorts")
        left_out = [*left_out[:_MOST_NAMED], rest]
    return kinds, left_out


def kind_of(parts: Parts, keys: Sequence[bytes], hashes: Hashes) -> Kind:
    """Return what the hashes of ``keys``, which have ``parts`` in common, are like."""
    names = clusters.names_of(parts)
    template = Template(clusters.template(parts, names))
    key_profiles = {name: Profile() for name in names}
    fields: dict[str, Profile] = {}
    count = 0
    equal: Counter[tuple[str, str]] = Counter()
    for key in keys:
        values = template.match(key)
        if values is None:
            continue
        count += 1
        for name, value in zip(names, values):
            key_profiles[name].add(value)
        for raw, value in hashes[key].items():
            name = _text(raw)
            fields.setdefault(name, Profile()).add(value)
            equal.update((name, part) for part, other in zip(names, values) if other == value)
    copies = {
        name
        for (name, _), times in equal.items()
        if times == fields[name].count == count and _OF_KEY.search(clusters.snake(name))
    }
    kind = Kind(template.text, parts, names, count, key_profiles, fields)
    _without_copies(kind, copies)
    return kind


def _without_copies(kind: Kind, copies: set[str]) -> None:
    """Take out fields that repeat a part of the key, which a column gets once; keep their names apart."""
    for name in sorted(copies):
        if len(kind.fields) > 1:
            del kind.fields[name]
            kind.notes.append(f"The field {name} is left out: it repeats the key.")


def _with_siblings(found: Sequence[Cluster], hashes: Hashes) -> list[Cluster]:
    """Join clusters that differ in one word only and have the same fields: the word varies."""
    by_hole: dict[Parts, list[Cluster]] = {}
    for each in found:
        first = next((index for index, part in enumerate(each.parts) if clusters.is_word(part)), 0)
        for index, part in enumerate(each.parts):
            if index > first and clusters.is_word(part):
                hole = (*each.parts[:index], VARIES, *each.parts[index + 1 :])
                by_hole.setdefault(hole, []).append(each)
    joined: dict[Parts, list[str]] = {each.parts: each.keys for each in found}
    for hole, siblings in by_hole.items():
        alike = [each for each in siblings if each.parts in joined and VARIES in each.parts]
        sets = [frozenset(name for key in each.keys[:50] for name in hashes[key.encode()]) for each in alike]
        if len(alike) >= _SIBLINGS and len(set(sets)) == 1:
            keys = [key for each in alike for key in joined.pop(each.parts)]
            joined[hole] = keys
    clusters_left = [Cluster(*each) for each in joined.items()]
    return sorted(clusters_left, key=lambda each: (-len(each.keys), str(each.parts)))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
