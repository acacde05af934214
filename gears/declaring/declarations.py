"""What a user writes into a file of functions: one call declares one function."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from gears.declaring import kinds, patterns
from gears.declaring.errors import DeclarationError, Mistake
from gears.declaring.executing import Declared, collecting
from gears.declaring.functions import Constant, Transform, build, default_name

if TYPE_CHECKING:
    from connectors import Target


class Declaration(Declared):
    """What a file of functions declares with one call.

    In a file that ``gearsync`` loads, mistakes are collected and reported together. Elsewhere a mistake
    raises ``gears.declaring.errors.DeclarationError`` at once.
    """

    kind = ""

    def _declare(self, target: Target | None, transform: Transform | None, options: dict[str, Any]) -> None:
        place = _caller()
        target_name = getattr(target, "name", "")
        function, mistakes = build(self.kind, options, target_name, _name_of(transform), place)
        shown = str(options.get("name") or default_name(self.kind, options.get("table")))
        mistakes += [Mistake(place, shown, *problem) for problem in _object_problems(target, transform)]
        self.function = None if mistakes else function
        # None only beside the mistake that says so.
        self.target = cast("Target", target)
        self.transform = transform
        collector = collecting.get()
        if collector is not None:
            collector.functions.append(self)
            collector.mistakes.extend(mistakes)
        elif mistakes:
            raise DeclarationError(mistakes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.function!r})"


class WriteBehind(Declaration):
    """Carry every change of the hashes that ``keys`` covers to rows of ``table``, behind the write.

    ::

        from gears import WriteBehind
        from connectors import Target

        reporting = Target("env:REPORTING_DB_URL")

        WriteBehind(
            keys="person:{person_id}",
            table="persons",
            columns={"first_name": "first", "last_name": "last", "age": "age"},
            target=reporting,
        )

    ``HSET person:7 first_name Ada age 36`` then becomes the row ``person_id = 7, first = 'Ada', age = 36``;
    a field that the hash lacks leaves the column's default in a new row, and becomes NULL when it is
    removed from the hash.

    keys
        The key template. Text outside braces is literal (``{{`` and ``}}`` are literal braces). ``{name}``
        stands for a part of the key without ``:``; ``{name*}``, only at the end, for all the rest. The
        names are the columns of the table's primary key, all of them.
    table
        The table in the target's schema. It must exist, with a primary key.
    columns
        A dict from hash field to column, or a list of names that are both. May be empty with ``rest``.
    target
        The ``connectors.Target`` that says which database.
    name
        What this function is called in messages, dead letters and ``status``; the table's name unless
        given. Two functions of a deployment can't have the same name.
    db
        The number of the Redis database that holds the keys.
    transform
        A callable that takes a ``gears.Change`` and returns it changed, or None to drop it. It runs in the
        worker, with the source of this file and the deployment's requirements, and nothing else of this
        folder. It must give the same result each time: after a crash, changes pass through it again. With a
        transform the whole hash is captured.
    rest
        A column (JSON, JSONB or text) that gets all fields that ``columns`` does not name, as one JSON object
        with the names in order. The whole hash is captured.
    rest_bytes
        What becomes of a value there that is no UTF-8: ``"refuse"``, a dead letter, or ``"base64"``:
        ``{"base64": "…"}``.
    constants
        A dict from column to the value that every row has there.
    computed
        A dict from column to a text with names in braces: parts of the key, fields, and of the change
        ``{@time}``, ``{@id}``, ``{@epoch}``, ``{@key}``, ``{@deployment}`` and ``{@shard}``. NULL where a
        field is absent.
    fields
        The hash fields that the transform needs beside the mapped ones. Given, only those are captured
        instead of the whole hash.
    on_delete, on_expire, on_evict, on_flush
        What becomes of the row when its key is deleted (or renamed away, or replaced by another type),
        expires, is evicted for lack of memory, or goes with FLUSHALL or FLUSHDB: ``"delete"``, ``"keep"`` or,
        but for a flush, ``"mark"``: the row stays, and its column ``deleted_at`` says since when. Defaults:
        delete, delete, keep and keep. ``on_flush="delete"`` needs ``lanes = 1`` and a server that is no
        cluster.
    deleted_at
        The column for ``"mark"``, called deleted_at unless given; a later write of the key makes it NULL.
    history
        True: each change is a row of its own, with the columns change_lane, change_epoch, change_ms and
        change_seq (the primary key), change_op and changed_at beside the others.
    operations
        True: the field ``#`` of a hash is an operation, as clients of rgsync write it, and never stored:
        ``=`` writes to Redis and SQL, ``+`` to Redis alone, ``-`` deletes the key and leaves the row, ``~``
        deletes both. What follows the character names the stream that acknowledges it. For database 0 alone.
    type
        What the keys hold. ``"hash"``; ``"json"``: documents, in strings or of the JSON type, and ``columns``
        maps paths, ``{"$.address.city": "city", "$": "document"}``; ``"set"``, ``"list"`` or ``"zset"``: each
        member is a row, and ``columns`` maps ``member``, ``index`` and ``value``, or ``member`` and
        ``score``. The column of ``member`` or ``index`` is the last one of the primary key.
    members
        The most members of a key; one with more is a dead letter.
    """

    kind = patterns.Behind.kind

    def __init__(
        self,
        keys: str,
        table: str,
        columns: dict[str, str] | Sequence[str] = (),
        target: Target | None = None,
        *,
        name: str | None = None,
        db: int = 0,
        transform: Transform | None = None,
        fields: Sequence[str] | None = None,
        rest: str | None = None,
        rest_bytes: str = "refuse",
        constants: dict[str, Constant] | None = None,
        computed: dict[str, str] | None = None,
        deleted_at: str | None = None,
        history: bool = False,
        on_delete: str = "delete",
        on_expire: str = "delete",
        on_evict: str = "keep",
        on_flush: str = "keep",
        operations: bool = False,
        type: str = kinds.HASH,  # noqa: A002 - as in TOML
        members: int = kinds.MEMBERS,
    ) -> None:
        options: dict[str, Any] = {"keys": keys, "table": table, "columns": columns, "name": name, "db": db}
        options.update(rest=rest, rest_bytes=rest_bytes, constants=constants, computed=computed)
        options.update(deleted_at=deleted_at, history=history, fields=fields)
        options.update(on_delete=on_delete, on_expire=on_expire)
        options.update(on_evict=on_evict, on_flush=on_flush, operations=operations)
        options.update(type=type, members=members)
        self._declare(target, transform, options)


class WriteThrough(Declaration):
    """Commit every write of the hashes that ``keys`` covers in SQL before its client gets the reply.

    The client of HSET, HMSET, HSETNX, HINCRBY, HINCRBYFLOAT, HDEL, DEL, UNLINK or EXPIRE waits, nobody else:
    then the write is in SQL and in Redis, or the reply is an error and it is in neither. Other commands that
    change such a key are refused, as are all in MULTI and in scripts. Expiry and eviction reach SQL as with
    ``WriteBehind``.

    timeout_ms
        How long a client waits at most, in milliseconds.

    All other options are those of ``WriteBehind``. A deployment has write-behind functions or write-through
    ones, not both.
    """

    kind = patterns.Through.kind

    def __init__(
        self,
        keys: str,
        table: str,
        columns: dict[str, str] | Sequence[str] = (),
        target: Target | None = None,
        *,
        name: str | None = None,
        db: int = 0,
        transform: Transform | None = None,
        fields: Sequence[str] | None = None,
        rest: str | None = None,
        rest_bytes: str = "refuse",
        constants: dict[str, Constant] | None = None,
        computed: dict[str, str] | None = None,
        deleted_at: str | None = None,
        history: bool = False,
        on_delete: str = "delete",
        on_expire: str = "delete",
        on_evict: str = "keep",
        on_flush: str = "keep",
        timeout_ms: int = 5000,
    ) -> None:
        options: dict[str, Any] = {"keys": keys, "table": table, "columns": columns, "name": name, "db": db}
        options.update(rest=rest, rest_bytes=rest_bytes, constants=constants, computed=computed)
        options.update(deleted_at=deleted_at, history=history, fields=fields)
        options.update(on_delete=on_delete, on_expire=on_expire)
        options.update(on_evict=on_evict, on_flush=on_flush, timeout_ms=timeout_ms)
        self._declare(target, transform, options)


class ReadThrough(Declaration):
    """Load the row of a hash that ``keys`` covers from ``table`` when it is read and is not in Redis.

    ttl
        Seconds that a loaded hash lives; 0: for ever.
    timeout_ms
        How long the client of a read waits at most, in milliseconds.
    missing_ms
        How long it is remembered that a row does not exist, in milliseconds; 0: not at all.
    refresh_ahead
        A hash that is read in so many last seconds of its ``ttl`` is loaded again behind the reply; 0: never.
    on_failure
        What the client gets when the row can't be read: ``"error"``, or ``"miss"``: as if there were no key.

    deleted_at
        A column of the table: a row that has something there is no row.

    ``keys``, ``table``, ``columns``, ``rest``, ``rest_bytes``, ``target``, ``name`` and ``db`` are those of
    ``WriteBehind``.
    """

    kind = patterns.Reading.kind

    def __init__(
        self,
        keys: str,
        table: str,
        columns: dict[str, str] | Sequence[str] = (),
        target: Target | None = None,
        *,
        name: str | None = None,
        db: int = 0,
        rest: str | None = None,
        rest_bytes: str = "refuse",
        deleted_at: str | None = None,
        ttl: int = 0,
        timeout_ms: int = 5000,
        missing_ms: int = 1000,
        refresh_ahead: int = 0,
        on_failure: str = "error",
    ) -> None:
        options: dict[str, Any] = {"keys": keys, "table": table, "columns": columns, "name": name, "db": db}
        options.update(rest=rest, rest_bytes=rest_bytes, deleted_at=deleted_at)
        options.update(ttl=ttl, timeout_ms=timeout_ms, missing_ms=missing_ms)
        options.update(refresh_ahead=refresh_ahead, on_failure=on_failure)
        self._declare(target, None, options)


class WriteAround(Declaration):
    """Follow rows of ``table`` that others change in SQL: the hashes that ``keys`` covers follow them.

    on_change
        ``"invalidate"``: the key is deleted, and its row stays; ``"refresh"``: the hash is made of the row.
    columns
        As for ``WriteBehind``; needed for ``"refresh"`` alone.
    poll_ms
        The longest time between two looks at the outbox, in milliseconds.
    ttl
        Seconds that a refreshed hash lives; 0: for ever.

    deleted_at
        A column of the table: a row that has something there is no row.

    ``gearsync triggers FILE`` prints the SQL that the table needs. ``keys``, ``table``, ``rest``,
    ``rest_bytes``, ``target``, ``name`` and ``db`` are those of ``WriteBehind``.
    """

    kind = patterns.Around.kind

    def __init__(
        self,
        keys: str,
        table: str,
        target: Target,
        *,
        columns: dict[str, str] | Sequence[str] = (),
        name: str | None = None,
        db: int = 0,
        rest: str | None = None,
        rest_bytes: str = "refuse",
        deleted_at: str | None = None,
        on_change: str = "invalidate",
        poll_ms: int = 200,
        ttl: int = 0,
    ) -> None:
        options: dict[str, Any] = {"keys": keys, "table": table, "columns": columns, "name": name, "db": db}
        options.update(rest=rest, rest_bytes=rest_bytes, deleted_at=deleted_at)
        options.update(on_change=on_change, poll_ms=poll_ms, ttl=ttl)
        self._declare(target, None, options)


def deployment_settings(**settings: Any) -> None:
    """Set what holds for the whole deployment, once in a file of functions; see
    ``gears.declaring.deployment.Deployment``.

    name, lanes, batch (changes), interval_ms, backlog (a dict of ``entries``, ``bytes``, ``on_full``),
    worker, transactions, and requirements (a list of what pip takes, or paths of wheels beside this file).
    """
    collector = collecting.get()
    if collector is None:
        return
    if collector.settings_place:
        message = f"deployment_settings was already called at {collector.settings_place}; once is enough"
        collector.mistakes.append(Mistake(_caller(), "", "", message))
        return
    collector.settings_place = _caller()
    collector.settings = settings


def _object_problems(target: Any, transform: Any) -> list[tuple[str, str]]:
    """Return what is wrong with the two options that take objects, as pairs of option and sentence."""
    problems = []
    if not hasattr(target, "resolve"):
        message = f'{target!r} is no target; write target=Target("env:…"), with Target from connectors'
        problems.append(("target", message))
    if transform is not None and not callable(transform):
        message = f"{transform!r} can't be called; a transform takes a Change and returns a Change or None"
        problems.append(("transform", message))
    return problems


def _caller() -> str:
    """Return ``file:line`` of the code that called into this module."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _name_of(transform: Any) -> str | None:
    if transform is None:
        return None
    return str(getattr(transform, "__qualname__", type(transform).__qualname__))
