"""The writes that a client of a storm chooses from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from tests.storm.model import GONE, Act, Command, Model, State, state_of

OWN_TAGS = 3
SHARED = 4
COUNTERS = 2
#: Longer than what the narrow column holds.
_LONG = "extra-{}"

RESTORED = (
    "redis.call('HSET', KEYS[1], 'version', ARGV[1]) "
    "redis.call('RESTORE', KEYS[2], 0, redis.call('DUMP', KEYS[1]), 'REPLACE')"
)
SCRIPT = "redis.call('HSET', KEYS[1], 'version', ARGV[1], 'note', ARGV[2]) redis.call('HDEL', KEYS[1], 'age')"


def key_of(prefix: str, tag: str, number: int) -> str:
    """Return the key of a row; those of one tag share a cluster's slot."""
    return f"{prefix}:{{{tag}}}:{number}"


class Writes:
    """Chooses one client's writes of the keys ``<prefix>:{<tag>}:<number>``."""

    def __init__(self, prefix: str, client: int, model: Model, dice: random.Random) -> None:
        self._prefix = prefix
        self._tags = [f"{prefix[0]}{client}x{each}" for each in range(OWN_TAGS)]
        self._model = model
        self.dice = dice
        self._numbers = itertools.count()
        self.versions: Iterator[int] = itertools.count(1)

    def next(self) -> Act:
        """Return the next write."""
        chance = self.dice.random()
        if chance < 0.12:
            return self._shared()
        if chance < 0.20:
            return self._count()
        return self._own()

    def _own(self) -> Act:
        raise NotImplementedError

    # -- Parts -------------------------------------------------------------------------------------------

    def _new(self, tag: str = "") -> str:
        return key_of(self._prefix, tag or self.dice.choice(self._tags), next(self._numbers))

    def _some(self) -> str:
        """A key of now, or a new one."""
        known = self._model.written()
        return self._new() if len(known) < 12 or self.dice.random() < 0.1 else self.dice.choice(known)

    def _before(self, key: str) -> dict[str, object]:
        return dict(self._model.states.get(key, GONE))

    def _beside(self, key: str) -> str:
        """Another key of the same tag, there or not."""
        tag = key.split("{")[1].split("}")[0]
        known = [each for each in self._model.written() if f"{{{tag}}}" in each and each != key]
        return self.dice.choice(known) if known and self.dice.random() < 0.6 else self._new(tag)

    def _set(self, key: str, whole: bool = False) -> tuple[Command, dict[str, object]]:
        """An HSET with a version of its own, and the fields that the hash has then."""
        version = next(self.versions)
        fields: dict[str, object] = {"version": version}
        if whole or self.dice.random() < 0.7:
            fields["note"] = f"n{version}"
        if whole or self.dice.random() < 0.3:
            fields["age"] = version % 90
        if self.dice.random() < 0.4:
            fields["extra"] = _LONG.format(version) if self.dice.random() < 0.5 else version % 90
        pairs = itertools.chain(*fields.items())
        return ("HSET", key, *pairs), {**self._before(key), **fields}

    def _done(self, kind: str, key: str, commands: list[Command], fields: dict[str, object]) -> Act:
        return Act(kind, tuple(commands), {key: state_of(fields)})

    def _shared(self) -> Act:
        tag = f"{self._prefix[0]}s{self.dice.randrange(SHARED)}"
        key = key_of(self._prefix, tag, self.dice.randrange(2))
        version = next(self.versions)
        kind = self.dice.random()
        if kind < 0.5:
            return Act("shared hset", (("HSET", key, "version", version, "note", f"n{version}"),))
        if kind < 0.7:
            return Act("shared hincrby", (("HINCRBY", key, "age", 1),))
        if kind < 0.85:
            return Act("shared hdel", (("HDEL", key, "note"),))
        return Act("shared del", (("DEL", key),))

    def _count(self) -> Act:
        tag = f"{self._prefix[0]}c{self.dice.randrange(COUNTERS)}"
        key = key_of(self._prefix, tag, 0)
        return Act("count", (("HINCRBY", key, "age", 1),), counter=key)

    # -- Writes that both kinds have ---------------------------------------------------------------------

    def _hset(self) -> Act:
        key = self._some()
        command, fields = self._set(key)
        return self._done("hset", key, [command], fields)

    def _del(self) -> Act:
        key = self._some()
        return Act("del", ((self.dice.choice(["DEL", "UNLINK"]), key),), {key: GONE})

    def _expire(self) -> Act:
        key = self._some()
        return Act("expire", (("PEXPIRE", key, self.dice.randrange(1, 900)),), {key: GONE}, last=True)


class BehindWrites(Writes):
    """Writes that do not wait: any command."""

    def _own(self) -> Act:
        chance = self.dice.random()
        choices = [
            (0.35, self._hset),
            (0.47, self._hdel),
            (0.57, self._hincrby),
            (0.64, self._del),
            (0.70, self._expire),
            (0.76, self._rename),
            (0.82, self._copy),
            (0.87, self._restore),
            (0.92, self._script),
            (0.97, self._deleted_and_written),
            (1.0, self._poison),
        ]
        return next(write for limit, write in choices if chance < limit)()

    def _hdel(self) -> Act:
        key = self._some()
        command, fields = self._set(key)
        fields.pop("note", None)
        return self._done("hdel", key, [command, ("HDEL", key, "note")], fields)

    def _hincrby(self) -> Act:
        key = self._some()
        command, fields = self._set(key)
        fields["age"] = int(str(fields.get("age", 0))) + 1
        return self._done("hincrby", key, [command, ("HINCRBY", key, "age", 1)], fields)

    def _rename(self) -> Act:
        key = self._some()
        other = self._beside(key)
        command, fields = self._set(key)
        after = {key: GONE, other: state_of(fields)}
        return Act("rename", (command, ("RENAME", key, other)), after)

    def _copy(self) -> Act:
        key = self._some()
        other = self._beside(key)
        command, fields = self._set(key)
        after = {key: state_of(fields), other: state_of(fields)}
        return Act("copy", (command, ("COPY", key, other, "REPLACE")), after)

    def _restore(self) -> Act:
        key = self._some()
        other, version = self._beside(key), next(self.versions)
        state: State = state_of({**self._before(key), "version": version})
        return Act("restore", (("EVAL", RESTORED, 2, key, other, version),), {key: state, other: state})

    def _script(self) -> Act:
        key, version = self._some(), next(self.versions)
        fields = {**self._before(key), "version": version, "note": f"n{version}"}
        fields.pop("age", None)
        return self._done("script", key, [("EVAL", SCRIPT, 1, key, version, f"n{version}")], fields)

    def _deleted_and_written(self) -> Act:
        key = self._some()
        command, _ = self._set(key, whole=True)
        fields = dict(zip(map(str, command[2::2]), command[3::2]))
        return self._done("del hset", key, [("DEL", key), command], fields)

    def _poison(self) -> Act:
        key, version = self._new(), next(self.versions)
        words = ("HSET", key, "version", version, "age", "old" if version % 2 else -7)
        after = {key: state_of({"version": version, "age": words[-1]})}
        return Act("poison", (words,), after, last=True, poison=key)


class ThroughWrites(Writes):
    """Writes that wait for SQL: each alone."""

    def _own(self) -> Act:
        chance = self.dice.random()
        choices = [
            (0.40, self._hset),
            (0.52, self._hdel),
            (0.64, self._hincrby),
            (0.70, self._hsetnx),
            (0.78, self._del),
            (0.82, self._two_deleted),
            (0.86, self._expire),
            (0.94, self._refused),
            (1.0, self._not_alone),
        ]
        return next(write for limit, write in choices if chance < limit)()

    def _hdel(self) -> Act:
        key = self._some()
        fields = self._before(key)
        fields.pop("note", None)
        return self._done("hdel", key, [("HDEL", key, "note")], fields)

    def _hincrby(self) -> Act:
        key = self._some()
        fields = self._before(key)
        fields["age"] = int(str(fields.get("age", 0))) + 1
        return self._done("hincrby", key, [("HINCRBY", key, "age", 1)], fields)

    def _hsetnx(self) -> Act:
        key, version = self._some(), next(self.versions)
        fields = {"note": f"x{version}", **self._before(key)}
        return self._done("hsetnx", key, [("HSETNX", key, "note", f"x{version}")], fields)

    def _two_deleted(self) -> Act:
        key = self._some()
        other = self._beside(key)
        return Act("del two", (("DEL", key, other),), {key: GONE, other: GONE})

    def _refused(self) -> Act:
        """A value that the converter, or the table, refuses: never acknowledged."""
        key, version = self._some(), next(self.versions)
        value: object = self.dice.choice(["old", -7])
        return Act("refused", (("HSET", key, "version", version, "age", value),), self._unchanged(key))

    def _not_alone(self) -> Act:
        """In a MULTI or by a command of which no intent can be made: refused as well."""
        key = self._some()
        command, _ = self._set(key)
        other: Command = ("RENAME", key, self._beside(key))
        commands = (command, ("HINCRBY", key, "age", 1)) if self.dice.random() < 0.5 else (other,)
        return Act("refused", commands, self._unchanged(key))

    def _unchanged(self, key: str) -> dict[str, State]:
        return {key: self._model.states.get(key, GONE)}
