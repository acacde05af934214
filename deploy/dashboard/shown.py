"""A dead letter as the page gets it: bounded, whatever its hash holds."""

from __future__ import annotations

from typing import Any

from deploy.letters import pages
from deploy.letters.store import Letter
from gears.applying.deadletters import LEFT_OUT

MAX_FIELDS = 60
MAX_TEXT = 1000
"""The longest text that is sent whole, in characters."""


def letter_document(letter: Letter) -> dict[str, Any]:
    """Return a letter for the page: its place, and its document with long texts cut.

    The image is a list of [field, value]; ``left_out`` says how many fields are not in it.
    """
    document = letter.document()
    image = document["image"]
    pairs = list(image.items())
    return {
        **document,
        "place": str(pages.place(letter)),
        "key": _text(document["key"]),
        "reason": _text(document["reason"]),
        "image": [[_text(name), _text(value)] for name, value in pairs[:MAX_FIELDS]],
        "left_out": max(0, len(pairs) - MAX_FIELDS),
    }


def _text(value: Any) -> str:
    """Return a text, or what stands for bytes that are none, of a length that fits a page."""
    if isinstance(value, dict):
        large = value.get(LEFT_OUT)
        value = f"{large} bytes, too many for a letter" if large else f"base64: {value.get('base64', '')}"
    text = str(value)
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT:,} more characters)"
