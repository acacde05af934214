"""What can be wrong with what a user declared.

GearsyncError
├── TemplateError      a key template that can't be read (also a ValueError)
├── KeyPartError       values that no key of a template can hold
├── DeclarationError   the file of functions has mistakes: all of them, each with its place
└── PayloadError       a deployed payload that this version of gearsync can't read
"""

from __future__ import annotations

from typing import NamedTuple, Sequence


class GearsyncError(Exception):
    """The root of all errors that gearsync raises about functions and deployments."""


class TemplateError(GearsyncError, ValueError):
    """A key template can't be read. ``position`` is the index of the character where it goes wrong."""

    def __init__(self, text: str, position: int, reason: str) -> None:
        super().__init__(f'{reason} (character {position + 1} of the key template "{text}")')
        self.text = text
        self.position = position
        self.reason = reason


class KeyPartError(GearsyncError):
    """Values from SQL have no key: the template would not read them out of it again."""


class PayloadError(GearsyncError):
    """A deployment's payload in Redis can't be read: it is damaged, or of a newer gearsync."""


class Mistake(NamedTuple):
    """One thing that is wrong. ``place`` is ``file:line`` or ``file``; ``function`` and ``option`` may be
    empty.
    """

    place: str
    function: str
    option: str
    message: str

    def where(self) -> str:
        """Return place, function and option as one text, for example ``functions.py:8, persons,
        columns``.
        """
        return ", ".join(part for part in (self.place, self.function, self.option) if part)

    def __str__(self) -> str:
        where = self.where()
        return f"{where}: {self.message}" if where else self.message


class DeclarationError(GearsyncError):
    """The declared functions have mistakes; ``mistakes`` lists every one of them."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = list(mistakes)
