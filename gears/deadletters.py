"""Dead letters: changes that are refused for good, with their reason (docs/design.md, "A dead letter")."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, NamedTuple

from gears.change import Change


class Fault(NamedTuple):
    """Why one function's row of a change is refused; ``column`` may be empty."""

    function: str
    table: str
    column: str
    reason: str


def readable(value: bytes) -> Any:
    """Return ``value`` as JSON can hold it: text when it is UTF-8, else ``{"base64": …}``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _field_name(field: bytes) -> str:
    return field.decode("utf-8", "backslashreplace")


def encode(change: Change, faults: list[Fault]) -> dict[str, bytes]:
    """Return the fields of the entry for a change and all that is wrong with it (at least one fault)."""
    reasons = list(dict.fromkeys(fault.reason for fault in faults))
    document = {
        "op": change.op.decode("latin-1"),
        "epoch": str(change.position.epoch),
        "image": json.dumps({_field_name(name): readable(value) for name, value in change.image.items()}),
        "reason": "; ".join(reasons),
        "functions": json.dumps(list(dict.fromkeys(fault.function for fault in faults))),
        "table": ", ".join(dict.fromkeys(fault.table for fault in faults)),
        "column": ", ".join(dict.fromkeys(fault.column for fault in faults if fault.column)),
        "at": str(int(time.time() * 1000)),
    }
    fields = {name: text.encode("utf-8", "backslashreplace") for name, text in document.items()}
    return {"key": change.key, **fields}
