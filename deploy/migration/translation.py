"""The functions that stand for a recipe's declarations, and what its user has to know about each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.migration.databases import Database, Databases, Place, Untranslated
from deploy.migration.standins import Call, Recording
from gears.declaring import functions
from gears.declaring.patterns import Behind, Through

#: What rgsync listens to unless the recipe says otherwise.
DEFAULT_EVENTS = ("hset", "hmset", "del", "change")
#: What has a special meaning in a prefix of RedisGears, which is a pattern.
_WILDCARDS = re.compile(r"[*?\[\]\\]")

WAITS = (
    "Clients write the keys themselves, not temporary ones, and each waits until SQL has its write: the "
    "reply is the acknowledgment, an error says why SQL refuses the row."
)
NOT_BOTH = "a deployment has write-behind functions or write-through ones, not both"


@dataclass
class Written:
    """A function as it is to be written: ``options`` come after columns and target."""

    declared: str
    name: str
    keys: str
    table: str
    columns: dict[str, str]
    database: Database
    options: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


@dataclass
class Translation:
    """What becomes of a recipe: functions, sentences to know, and sentences about what is not written."""

    functions: list[Written] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    #: Whether the functions are written with operations.
    operations: bool = False


def translate(recording: Recording, templates: Mapping[str, str], through: bool = False) -> Translation:
    """Find the function for each declaration of write-behind; of write-through if ``through`` says so, or
    where the recipe declares no other. ``templates`` are key templates by name, where none is told.
    """
    made = Translation()
    through = through or not any(call.kind == "RGWriteBehind" for call in recording.calls)
    translator = _Translator(recording, templates, through, made)
    # What is for another file comes last, for a function of this one may do it already.
    for call in sorted(recording.calls, key=lambda call: (call.kind == "RGWriteThrough") != through):
        try:
            translator.take(call)
        except Untranslated as error:
            made.refusals.append(f"{_shown(call)} is not written: {error}.")
    for own in recording.own:
        made.refusals.append(f"{own} is not written: it is RedisGears code of the recipe's own.")
    return made


class _Translator:
    def __init__(
        self, recording: Recording, templates: Mapping[str, str], through: bool, made: Translation
    ) -> None:
        self._calls = recording.calls
        self._templates = templates
        self._through = through
        self._made = made
        self._databases = Databases()

    def take(self, call: Call) -> None:
        """Write the function of one declaration. Raises Untranslated."""
        if call.kind.startswith("RGJSON"):
            raise Untranslated(
                "rgsync brings JSON documents to MongoDB whole; declare which paths of them fill which "
                'columns, by WriteBehind(type="json") (docs/guide.md, JSON documents)'
            )
        for what, given in (("name", call.name), ("prefix", call.prefix)):
            if not isinstance(given, str):
                raise Untranslated(f"its {what} is {given!r}, which is no text")
        names = [str(later.name) for later in self._calls[self._calls.index(call) + 1 :]]
        if call.name in names:
            raise Untranslated("a later declaration has the same name, and rgsync keeps one of them")
        for name in names:
            if name in call.name:
                self._warn(
                    call,
                    f"rgsync takes {name}, whose name is a part of this one's, for another version of it, "
                    "and keeps one of them; with gearsync both write",
                )
        if "transform" in call.options:
            raise Untranslated(
                "its transform takes records of RedisGears; write it anew as one of a gears.Change "
                "(docs/guide.md, Transforms)"
            )
        place = self._databases.place(call.connector)
        keys = self._keys(call, place)
        is_through = call.kind == "RGWriteThrough"
        if is_through != self._through:
            self._leave(call, keys, place)
            return
        declared = "WriteThrough" if is_through else "WriteBehind"
        written = Written(declared, call.name, keys, place.table, self._columns(call, place), place.database)
        self._check(written, Through.kind if is_through else Behind.kind)
        if is_through:
            self._write_through(call, written)
        else:
            self._write_behind(call, written)

    def _leave(self, call: Call, keys: str, place: Place) -> None:
        """Say what becomes of a declaration that is of the other kind."""
        for other in self._made.functions:
            if (other.keys, other.table, other.database) == (keys, place.table, place.database):
                waits = "waits until SQL has it" if self._through else "gets its reply at once"
                self._warn(
                    call,
                    f"nothing is written for it: each write of these keys {waits}, by {other.name}; "
                    f"{NOT_BOTH}",
                )
                return
        how = "run this without --through" if self._through else "--through"
        raise Untranslated(f"{NOT_BOTH}: {how} for a file of its own")

    def _warn(self, call: Call, sentence: str) -> None:
        warning = f"{_shown(call)}: {sentence}."
        if warning not in self._made.warnings:
            self._made.warnings.append(warning)

    # -- Keys ------------------------------------------------------------------------------------------------

    def _keys(self, call: Call, place: Place) -> str:
        given = self._templates.get(str(call.name))
        if given is not None:
            return given
        if call.kind == "RGWriteThrough":
            return self._keys_through(call, place)
        return self._keys_of(call, str(call.prefix), place)

    def _keys_of(self, call: Call, prefix: str, place: Place) -> str:
        if _WILDCARDS.search(prefix):
            raise Untranslated(f"its prefix, {prefix}, is a pattern; {_say_keys(call, place)}")
        if ":" in prefix:
            second = prefix.split(":")[1]
            self._warn(
                call,
                f"rgsync takes the second part of a key for the row, here always {second!r}; the function "
                f"takes what follows {prefix}:",
            )
        return _template(f"{prefix}:", place)

    def _keys_through(self, call: Call, place: Place) -> str:
        """Return the keys that a temporary key stands for, as far as the recipe tells them."""
        inside = str(call.prefix).partition("{")[2]
        if inside.endswith(":") and not _WILDCARDS.search(inside):
            return self._keys_of(call, inside[:-1], place)
        behind = [each for each in self._calls if each.kind == "RGWriteBehind"]
        found = {self._keys(other, place) for other in behind if self._writes_to(other, place)}
        if len(found) == 1:
            return found.pop()
        several = f", and the recipe writes {' and '.join(sorted(found))} to its table" if found else ""
        raise Untranslated(
            f"its prefix does not tell which keys it is for{several}; {_say_keys(call, place)}"
        )

    def _writes_to(self, call: Call, place: Place) -> bool:
        try:
            return self._databases.place(call.connector) == place
        except Untranslated:
            return False

    # -- Columns ---------------------------------------------------------------------------------------------

    def _columns(self, call: Call, place: Place) -> dict[str, str]:
        if not isinstance(call.mappings, dict):
            raise Untranslated("its mappings are no dict of field to column")
        columns: dict[str, Any] = {}
        for name, given in call.mappings.items():
            if str(name).startswith("_"):
                continue
            column = given.lower() if place.folds and isinstance(given, str) else given
            if column == place.primary_key:
                self._warn(call, f"the field {name} is left out, for the key fills its column, {column}")
                continue
            for other in [each for each, filled in columns.items() if filled == column]:
                self._warn(call, f"the field {other} is left out, for {name} fills its column, {column}")
                del columns[other]
            columns[name] = column
        return columns

    def _check(self, written: Written, kind: str) -> None:
        """Raise Untranslated with the mistakes of the declaration, if any."""
        options: dict[str, Any] = {"name": written.name, "keys": written.keys, "table": written.table}
        options["columns"] = written.columns
        _, mistakes = functions.build(kind, options, written.database.name, None, "")
        if mistakes:
            raise Untranslated("; ".join(f"{each.option}: {each.message}" for each in mistakes))

    # -- What is special to each -----------------------------------------------------------------------------

    def _write_behind(self, call: Call, written: Written) -> None:
        written.comments.append(f"{_shown(call)}.")
        # RedisGears takes their names in any case.
        events = {str(each).lower() for each in call.options.get("eventTypes", DEFAULT_EVENTS) or ()}
        for event, option, default in (
            ("del", "on_delete", "delete"),
            ("expired", "on_expire", "delete"),
            ("evicted", "on_evict", "keep"),
        ):
            policy = "delete" if not events or event in events else "keep"
            if policy != default:
                written.options[option] = policy
        if written.options.get("on_expire") == "keep":
            written.comments.append(
                'rgsync kept the rows of keys that expire; without on_expire="keep" they are deleted.'
            )
        if written.options.get("on_delete") == "keep":
            written.comments.append("The recipe did not listen to del.")
        tuned = [name for name in ("batch", "duration", "onFailedRetryInterval") if name in call.options]
        if tuned:
            self._warn(
                call,
                f"{' and '.join(tuned)} left out; gearsync tunes itself, and deployment_settings(batch=…, "
                "interval_ms=…) sets what holds for all functions",
            )
        self._made.functions.append(written)

    def _write_through(self, call: Call, written: Written) -> None:
        self._warn(call, WAITS[0].lower() + WAITS[1:-1])
        written.comments.append(f"{_shown(call)}. {WAITS}")
        written.comments.append("With rgsync # ~ alone deleted a row; here DEL of the key does.")
        written.options["on_expire"] = "keep"
        self._made.functions.append(written)


def _shown(call: Call) -> str:
    return f"{call.name} ({call.kind}, line {call.line})"


def _template(prefix: str, place: Place) -> str:
    literal = prefix.replace("{", "{{").replace("}", "}}")
    return f"{literal}{{{place.primary_key}}}"


def _say_keys(call: Call, place: Place) -> str:
    return f"say so: --keys '{call.name}=PREFIX:{{{place.primary_key}}}'"
