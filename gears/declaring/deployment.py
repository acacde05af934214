"""A deployment: functions, targets, settings and requirements as one unit of deploy and upgrade."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable

from connectors import Target
from gears.declaring import kinds
from gears.declaring.errors import DeclarationError, Mistake, PayloadError
from gears.declaring.executing import transforms_of
from gears.declaring.functions import Function, Transform, build
from gears.declaring.mapping import is_text
from gears.declaring.patterns import PATTERNS, Reading, Through, document

FORMAT, FORMAT_ADDED, FORMAT_WHOLE = 1, 2, 3
"""Of a payload. What knows FORMAT alone would pass over the columns that functions add, and say nothing; what
does not know FORMAT_WHOLE can't read the changes of transactions that stay whole.
"""
APART, WHOLE = "apart", "whole"
"""What becomes of transactions."""
MAX_LANES = 64
#: Of all targets of a deployment together; the module searches them one by one.
MAX_ALL_LANES = 1024
MAX_BATCH = 1_000_000
MAX_INTERVAL_MS = 60_000
MAX_BACKLOG = 1 << 50

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass
class Deployment:
    """What ``gearsync deploy`` brings to every shard under one name.

    name
        What the deployment is called; the name of its file unless given.
    lanes
        How many streams (and so workers' threads) a target's changes are split over, on each shard. Changes
        of one key are in one lane.
    batch
        The most changes in one SQL transaction.
    interval_ms
        The longest time, in milliseconds, that a change waits for others to join its batch.
    backlog_entries
        How many changes may wait on one shard; 0: no bound.
    backlog_bytes
        How much memory the changes that wait may take on one shard; 0: no bound.
    on_full
        What becomes of covered writes at the bound: ``"refuse"``, an error before they run, or ``"grow"``:
        they are captured all the same.
    worker
        ``"supervised"``: the module runs it; ``"external"``: you do, by ``gearsync worker``.
    transactions
        ``"apart"``: a batch may end within what one transaction in Redis changed; ``"whole"``: all that one
        MULTI/EXEC, script or function changed is in one SQL transaction, or none of it.
    requirements
        What pip takes: packages for the transforms of this deployment alone, or paths of wheels beside the
        file.
    wheels
        The names of uploaded wheels, each with the SHA-256 of its content in hex digits.
    source
        The text of the Python file, only when a function has a transform.
    """

    name: str
    version: int = 1
    functions: list[Function] = field(default_factory=list)
    targets: dict[str, Target] = field(default_factory=dict)
    lanes: int = 1
    batch: int = 2000
    interval_ms: int = 10
    backlog_entries: int = 10_000_000
    backlog_bytes: int = 0
    on_full: str = "refuse"
    worker: str = "supervised"
    transactions: str = APART
    requirements: list[str] = field(default_factory=list)
    wheels: dict[str, str] = field(default_factory=dict)
    source: str = ""
    source_name: str = ""

    @property
    def capturing(self) -> list[Function]:
        """The functions that bring writes to SQL."""
        return [function for function in self.functions if function.captures]

    @property
    def reading(self) -> list[Function]:
        """The functions that load rows when keys are read."""
        return [function for function in self.functions if function.kind == Reading.kind]

    @property
    def is_through(self) -> bool:
        """Whether clients wait for their writes to be in SQL."""
        return any(function.kind == Through.kind for function in self.functions)

    @property
    def is_whole(self) -> bool:
        """Whether transactions stay whole."""
        return self.transactions == WHOLE

    def to_payload(self) -> str:
        """Return the JSON text that stands in Redis, from which the worker makes this deployment again."""
        adds = any(each.mapping.additions.document() for each in self.functions)
        document = {
            "format": FORMAT_WHOLE if self.is_whole else FORMAT_ADDED if adds else FORMAT,
            "name": self.name,
            "version": self.version,
            "functions": [_function_document(function) for function in self.functions],
            "targets": {
                name: {"url": target.reference, "schema": target.schema}
                for name, target in self.targets.items()
            },
            "lanes": self.lanes,
            "batch": self.batch,
            "interval_ms": self.interval_ms,
            "backlog": {
                "entries": self.backlog_entries,
                "bytes": self.backlog_bytes,
                "on_full": self.on_full,
            },
            "worker": self.worker,
            "requirements": self.requirements,
            # Without wheels a payload is what it was before they had sums.
            "wheels": self.wheels or [],
            "source": self.source,
            "source_name": self.source_name,
        }
        if self.is_whole:
            document["transactions"] = self.transactions
        return json.dumps(document)

    @classmethod
    def from_payload(cls, text: str | bytes) -> Deployment:
        """Make a deployment of its payload. Raises PayloadError when it is damaged or of a newer
        gearsync.
        """
        try:
            document = json.loads(text)
            if document["format"] not in (FORMAT, FORMAT_ADDED, FORMAT_WHOLE):
                raise PayloadError(
                    f"the payload has format {document['format']!r}, and this gearsync reads formats up to "
                    f"{FORMAT_WHOLE}; install the newer gearsync here"
                )
            return _from_document(document)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise PayloadError(f"the payload is damaged: {type(error).__name__}: {error}") from error

    def deploy_arguments(self) -> list[bytes]:
        """Return the arguments of ``GEARSYNC.DEPLOY`` (docs/design.md, "Module commands"), without
        CHECK.
        """
        arguments: list[object] = [self.name, self.version, "LANES", self.lanes]
        arguments += ["BACKLOG", self.backlog_entries, self.backlog_bytes, self.on_full.upper()]
        arguments += ["WORKER", self.worker.upper()]
        arguments += ["TRANSACTIONS", "WHOLE"] if self.is_whole else []
        arguments += ["PAYLOAD", self.to_payload()]
        arguments += ["TARGETS", len(self.targets), *self.targets]
        arguments += ["FUNCTIONS", len(self.capturing)]
        for function in self.capturing:
            arguments += _capture_arguments(function)
        if self.reading:
            arguments += ["READS", len(self.reading)]
        for function in self.reading:
            arguments += _read_arguments(function)
        return [str(argument).encode() for argument in arguments]

    def transforms(self) -> dict[str, Transform]:
        """Execute the source and return each transform by its function's name; raises DeclarationError if
        one is missing.

        What the source itself raises is not caught. Functions without a transform are not in the result.
        """
        wanted = {
            each.name: each.transform_name for each in self.functions if each.transform_name is not None
        }
        if not wanted:
            return {}
        found, mistakes = transforms_of(self.source, self.source_name, wanted)
        if mistakes:
            raise DeclarationError(mistakes)
        return found


def _capture_arguments(function: Function) -> list[object]:
    mapping = function.mapping
    captured = function.captured_fields()
    arguments: list[object] = [function.target_name, mapping.db, mapping.keys.text, mapping.on_flush.upper()]
    arguments += ["OPERATIONS"] if mapping.operations else []
    if isinstance(function.pattern, Through):
        arguments += ["THROUGH", function.pattern.timeout_ms]
    arguments += ["NAMED", function.name]
    if mapping.type != kinds.HASH:
        arguments += ["TYPE", mapping.type.upper()]
    return arguments + ([-1] if captured is None else [len(captured), *captured])


def _read_arguments(function: Function) -> list[object]:
    mapping, pattern = function.mapping, function.pattern
    assert isinstance(pattern, Reading)  # noqa: S101 (for mypy)
    times = [pattern.timeout_ms, pattern.missing_ms, pattern.refresh_ahead * 1000]
    return [function.target_name, mapping.db, mapping.keys.text, *times, pattern.on_failure.upper()]


# -- The payload -------------------------------------------------------------------------------------------


def _function_document(function: Function) -> dict[str, Any]:
    mapping = function.mapping
    made: dict[str, Any] = {
        "kind": function.kind,
        "name": function.name,
        "keys": mapping.keys.text,
        "table": mapping.table,
        "columns": mapping.columns,
        "target": function.target_name,
        "db": mapping.db,
        "fields": None if mapping.fields is None else list(mapping.fields),
        "transform": function.transform_name,
    }
    if function.captures:
        made.update(mapping.policies())
    if mapping.operations:
        # Named only where it is set: without it, a payload is what it was before there were operations.
        made["operations"] = True
    made.update(mapping.additions.document())
    if mapping.type != kinds.HASH:
        made.update(type=mapping.type, members=mapping.members)
    made.update(document(function.pattern))
    return made


def _from_document(document: dict[str, Any]) -> Deployment:
    # Named only where it is set.
    document = {"transactions": APART, **document}
    settings = {name: document[name] for name in SETTINGS}
    settings["backlog"] = {name: document["backlog"][name] for name in BACKLOG}
    arguments, mistakes = settings_arguments(settings, "")
    if mistakes:
        raise PayloadError(f"the payload is damaged: {DeclarationError(mistakes)}")
    return Deployment(
        version=int(document["version"]),
        functions=[_function_from_document(each) for each in document["functions"]],
        targets={
            name: Target(each["url"], name=name, schema=each["schema"])
            for name, each in document["targets"].items()
        },
        wheels=_wheels(document["wheels"]),
        source=_text(document["source"]),
        source_name=_text(document["source_name"]),
        **arguments,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where a text is expected")
    return value


def _wheels(value: Any) -> dict[str, str]:
    # Versions before there were sums have a list of names.
    found = value if isinstance(value, dict) else dict.fromkeys(value, "")
    return {_text(name): _text(digest) for name, digest in found.items()}


def wheel_field(name: str, digest: str) -> str:
    """Return the field of the shard's hash of wheels where one is: versions whose wheels have the same name
    and another content are kept side by side.
    """
    return f"{digest}/{name}" if digest else name


def wheel_fields(payload: str) -> set[str]:
    """Return the fields of all wheels of a deployment, by its payload."""
    return {wheel_field(*each) for each in _wheels(json.loads(payload)["wheels"]).items()}


def _function_from_document(document: dict[str, Any]) -> Function:
    if document["kind"] not in PATTERNS:
        raise PayloadError(
            f"the payload holds a {document['kind']} function, which this gearsync does not know; "
            "install the newer gearsync here"
        )
    function, mistakes = build(document["kind"], document, document["target"], document["transform"], "")
    if function is None:
        raise PayloadError(f"the payload holds a function with mistakes: {DeclarationError(mistakes)}")
    return function


# -- The settings, as both forms of declaration write them -------------------------------------------------

SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda v: isinstance(v, str) and _NAME.fullmatch(v) is not None,
        "1 to 64 of the characters A-Z a-z 0-9 _ -",
    ),
    "lanes": (lambda v: _whole(v, 1, MAX_LANES), f"a whole number from 1 to {MAX_LANES}"),
    "batch": (lambda v: _whole(v, 1, MAX_BATCH), f"a whole number from 1 to {MAX_BATCH}"),
    "interval_ms": (lambda v: _whole(v, 0, MAX_INTERVAL_MS), f"a whole number from 0 to {MAX_INTERVAL_MS}"),
    "backlog": (lambda v: isinstance(v, dict), "a table of entries, bytes and on_full"),
    "worker": (lambda v: v in ("supervised", "external"), '"supervised" or "external"'),
    "transactions": (lambda v: v in (APART, WHOLE), '"apart" or "whole"'),
    "requirements": (
        lambda v: isinstance(v, (list, tuple)) and all(is_text(each) for each in v),
        "a list of texts, as pip takes them",
    ),
}
BACKLOG: dict[str, tuple[Callable[[Any], bool], str]] = {
    "entries": (lambda v: _whole(v, 0, MAX_BACKLOG), "a whole number of changes, 0 for no limit"),
    "bytes": (lambda v: _whole(v, 0, MAX_BACKLOG), "a whole number of bytes, 0 for no limit"),
    "on_full": (lambda v: v in ("refuse", "grow"), '"refuse" or "grow"'),
}


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def settings_arguments(settings: dict[str, Any], place: str) -> tuple[dict[str, Any], list[Mistake]]:
    """Check deployment-wide settings; return them as arguments of Deployment, and every mistake."""
    arguments, mistakes = _checked(settings, SETTINGS, place, "")
    backlog, more = _checked(arguments.pop("backlog", {}), BACKLOG, place, "backlog.")
    names = {"entries": "backlog_entries", "bytes": "backlog_bytes", "on_full": "on_full"}
    arguments.update((names[key], value) for key, value in backlog.items())
    if "requirements" in arguments:
        arguments["requirements"] = list(arguments["requirements"])
    return arguments, mistakes + more


def _checked(
    settings: dict[str, Any], known: dict[str, tuple[Callable[[Any], bool], str]], place: str, prefix: str
) -> tuple[dict[str, Any], list[Mistake]]:
    sound: dict[str, Any] = {}
    mistakes = []
    for key, value in settings.items():
        if key not in known:
            mistakes.append(Mistake(place, "", f"{prefix}{key}", unknown_option(str(key), known)))
        elif not known[key][0](value):
            mistakes.append(Mistake(place, "", prefix + key, f"{value!r} is not {known[key][1]}"))
        else:
            sound[key] = value
    return sound, mistakes


def unknown_option(option: str, known: Any) -> str:
    """Return the sentence for an option that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(option, list(known), 1)
    if near:
        return f"there is no such option; did you mean {near[0]}?"
    return "there is no such option; the options are {}".format(", ".join(known))
