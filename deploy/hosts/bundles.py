"""A requirement with its wheels, in RedisGears' own form: what RG.PYEXPORTREQ gives and RG.PYIMPORTREQ takes.

Numbers are 64 bits, little-endian; a text or a wheel is its length and its bytes, a text's with a NUL at the
end: the form's number, the requirement, from form 1 on the operating system, from form 2 on whether it is in
the shard's list of requirements, how many wheels there are, and of each its name and its content.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NEWEST = 2
"""The form of RedisGears 1.2.13; form 0 is taken by each version."""
PART_BYTES = 10 * 1024 * 1024
"""RedisGears gives a bundle in parts, and takes it so: no argument of a command may be too long for Redis."""

_NUMBER = struct.Struct("<q")


class BundleError(Exception):
    """This is no bundle that gearsync can read."""


@dataclass(frozen=True)
class Bundle:
    """``requirement`` is what pip takes, as RedisGears knows it; ``wheels`` are file names with contents."""

    requirement: str
    wheels: dict[str, bytes]

    def parts(self) -> Iterator[bytes]:
        """Yield the arguments of RG.PYIMPORTREQ."""
        form = bytearray(_NUMBER.pack(0) + _text(self.requirement) + _NUMBER.pack(len(self.wheels)))
        for name, content in self.wheels.items():
            form += _text(name) + _NUMBER.pack(len(content)) + content
        for start in range(0, len(form), PART_BYTES):
            yield bytes(form[start : start + PART_BYTES])


def decode(form: bytes) -> Bundle:
    """Read what RG.PYEXPORTREQ gives. Raises BundleError."""
    reader = _Reader(form)
    version = reader.number()
    if not 0 <= version <= NEWEST:
        raise BundleError(f"its form is {version}, and gearsync knows forms up to {NEWEST}")
    requirement = reader.text()
    if version >= 1:
        reader.text()
    if version >= 2:
        reader.number()
    wheels = {}
    for _ in range(reader.number()):
        name = reader.text()
        wheels[name] = reader.content()
    return Bundle(requirement, wheels)


def _text(text: str) -> bytes:
    encoded = text.encode() + b"\0"
    return _NUMBER.pack(len(encoded)) + encoded


class _Reader:
    def __init__(self, form: bytes) -> None:
        self._form = form
        self._at = 0

    def number(self) -> int:
        (number,) = _NUMBER.unpack(self._take(_NUMBER.size))
        return int(number)

    def text(self) -> str:
        try:
            return self.content().rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise BundleError("a name in it is no text") from error

    def content(self) -> bytes:
        return self._take(self.number())

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if length < 0 or end > len(self._form):
            raise BundleError("it is cut off")
        taken = self._form[self._at : end]
        self._at = end
        return taken
