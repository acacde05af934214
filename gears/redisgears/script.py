"""Makes the one script that is uploaded: the packages, the deployment and the registrations (Python 3.9)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import pkgutil
import zlib
from collections.abc import Sequence
from pathlib import Path

from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Through
from gears.redisgears import bootstrap
from gears.redisgears.commands import REFUSED, WRITES
from gears.redisgears.events import EVENTS, MISS, OF_STRINGS, READS
from gears.redisgears.names import family, lane_prefix, late_prefix, session

BATCHES = 4
"""How many batches RedisGears hands out at once, so that one is read while another is written."""
NAMES = (
    "on_event, on_batch, on_marks, on_command, on_registered, "
    "on_miss, on_loaded, on_write, on_other, on_queued"
)
"""What bootstrap.py returns."""
RETRY_SECONDS = 1
"""How long RedisGears waits before it tries a refused batch again."""

#: What runs beside Redis only.
LEFT_OUT = frozenset(
    (
        *("gears.worker", "gears.module", "gears.declaring.config"),
        *("gears.redisgears.script", "gears.redisgears.bootstrap"),
    )
)

Sources = dict[str, tuple[bool, str]]
"""Whether a module is a package, and its text, by its name."""


def sources() -> Sources:
    """Return the modules that a deployment needs inside RedisGears."""
    found: Sources = {}
    for name in ("connectors", "gears"):
        package = importlib.import_module(name)
        found[name] = (True, Path(str(package.__file__)).read_text(encoding="utf-8"))
        for info in pkgutil.walk_packages(package.__path__, name + "."):
            if any(info.name == each or info.name.startswith(each + ".") for each in LEFT_OUT):
                continue
            spec = importlib.util.find_spec(info.name)
            assert spec is not None and spec.origin is not None  # noqa: S101 (for mypy)
            found[info.name] = (info.ispkg, Path(spec.origin).read_text(encoding="utf-8"))
    return found


def make(deployment: Deployment, modules: Sources | None = None) -> str:
    """Return the text of the script. The same deployment gives the same script."""
    payload = deployment.to_payload()
    packed = json.dumps(sources() if modules is None else modules, sort_keys=True).encode()
    digest = hashlib.sha256(packed + payload.encode()).hexdigest()[:16]
    values = {
        "family": family(deployment.name),
        "name": family(deployment.name) + digest,
        "payload": payload,
        "packed": base64.b64encode(zlib.compress(packed, 9)).decode(),
    }
    text = Path(str(bootstrap.__file__)).read_text(encoding="utf-8")
    call = ", ".join(f"{name}={value!r}" for name, value in values.items())
    made = f"{NAMES} = readers({call})"
    return "\n".join([text, made, *_registrations(deployment), ""])


def _registrations(deployment: Deployment) -> list[str]:
    lines = [
        f"GB('KeysReader').filter(on_event).register(prefix={prefix + '*'!r}, mode='sync', readValue=False, "
        f"eventTypes={_events(deployment)!r}, convertToStr=False, collect=False)"
        for prefix in prefixes(deployment.capturing)
    ]
    lines += [
        f"GB('KeysReader').map(on_miss).filter(on_loaded).register(prefix={prefix + '*'!r}, "
        f"mode='async_local', readValue=False, eventTypes={[MISS]!r}, commands={list(READS)!r}, "
        "convertToStr=False, collect=False)"
        for prefix in prefixes(deployment.reading)
    ]
    lines += [
        _stream_reader(
            "on_batch",
            lane_prefix(deployment.name, target),
            deployment.batch * BATCHES,
            deployment.interval_ms,
        )
        for target in captured_targets(deployment)
    ]
    if has_operations(deployment):
        lines.append(_stream_reader("on_marks", late_prefix(deployment.name), 1, 1))
    lines += [
        f"GB('CommandReader').map({function}).register(hook={command!r}, keyprefix={prefix!r}, mode='sync', "
        "convertToStr=False, collect=False)"
        for prefix in prefixes(through_functions(deployment))
        for function, commands in (("on_write", WRITES), ("on_other", REFUSED))
        for command in commands
    ]
    lines += [
        f"GB('CommandReader').map(on_queued).register(trigger={command!r}, mode='sync', convertToStr=False, "
        "collect=False)"
        for command in (queued() if through_functions(deployment) else ())
    ]
    lines.append(
        f"GB('CommandReader').map(on_command).register(trigger={session(deployment.name)!r}, mode='sync', "
        "onRegistered=on_registered, convertToStr=False, collect=False)"
    )
    return lines


def _events(deployment: Deployment) -> list[str]:
    documents = any(function.mapping.type == kinds.JSON for function in deployment.capturing)
    return [*EVENTS, *(OF_STRINGS if documents else ())]


def _stream_reader(function: str, prefix: str, batch: int, interval_ms: int) -> str:
    return (
        f"GB('StreamReader').limit(1).filter({function}).register(prefix={prefix + '*'!r}, "
        f"mode='async_local', batch={batch}, duration={max(1, interval_ms)}, "
        f"onFailedPolicy='retry', onFailedRetryInterval={RETRY_SECONDS}, trimStream=False, "
        "convertToStr=False, collect=False)"
    )


def has_operations(deployment: Deployment) -> bool:
    """Return whether a function of the deployment has operations."""
    return any(function.mapping.operations for function in deployment.functions)


def captured_targets(deployment: Deployment) -> list[str]:
    """Return the targets that have lanes."""
    return list(dict.fromkeys(function.target_name for function in deployment.capturing))


def queued() -> list[str]:
    """Return the triggers that RedisGears asks for hooked commands of a MULTI, as clients write them."""
    return [spelt for command in (*WRITES, *REFUSED) for spelt in (command, command.upper())]


def through_functions(deployment: Deployment) -> list[Function]:
    """Return the functions whose clients wait."""
    return [function for function in deployment.capturing if function.kind == Through.kind]


def prefixes(functions: Sequence[Function]) -> list[str]:
    """Return the beginnings of the keys that functions cover, such that no key has two of them."""
    found = sorted({function.mapping.keys.prefix.decode() for function in functions}, key=len)
    return [
        prefix
        for at, prefix in enumerate(found)
        if not any(prefix.startswith(shorter) for shorter in found[:at])
    ]
