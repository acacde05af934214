"""Is a text one SQL expression, and nothing behind it? A first look; the database has the last word."""

from __future__ import annotations

import re
from typing import NamedTuple

_DOLLARS = re.compile(r"\$(?:[^\W\d]\w*)?\$")


class Syntax(NamedTuple):
    """How a database writes quotes and comments.

    ``quotes``: each opening character with its closing one. ``escapes``: those in which a backslash escapes.
    ``comments``: what begins one. ``dollars``: whether ``$tag$ … $tag$`` quotes; then ``E'…'`` escapes, too.
    """

    quotes: dict[str, str]
    escapes: str
    comments: tuple[str, ...]
    dollars: bool


STANDARD = Syntax({"'": "'", '"': '"'}, "", ("--", "/*"), False)
POSTGRES = STANDARD._replace(dollars=True)
MYSQL = Syntax({"'": "'", '"': '"', "`": "`"}, "'\"", ("--", "/*", "#"), False)
SQLITE = STANDARD._replace(quotes={"'": "'", '"': '"', "`": "`", "[": "]"})


def problem(where: str, syntax: Syntax) -> str:
    """Return what makes ``where`` no single expression, or one that can't be told; empty: nothing."""
    if not where.strip():
        return "it is empty"
    if "\0" in where:
        return "it holds a NUL character"
    if any("\ud800" <= char <= "\udfff" for char in where):
        return "it holds what is no UTF-8"
    depth = 0
    at = 0
    while at < len(where):
        char = where[at]
        if where.startswith(syntax.comments, at):
            return "it holds a comment, which could hide what follows; leave it out"
        if char == ";":
            return "it holds a ; outside quotes, and one expression ends with the text"
        closed = _quoted(where, at, syntax)
        if closed < 0:
            return f"the quote that begins at character {at + 1} is not closed"
        depth += (char == "(") - (char == ")")
        if depth < 0:
            return f"the ) at character {at + 1} closes nothing"
        at = closed
    return "a ( is not closed" if depth else ""


def _quoted(where: str, at: int, syntax: Syntax) -> int:
    """Return the index behind what begins at ``at``: a quoted text, or one character; -1: it has no end."""
    dollars = _DOLLARS.match(where, at) if syntax.dollars and not _in_word(where, at) else None
    if dollars is not None:
        end = where.find(dollars.group(), dollars.end())
        return end if end < 0 else end + len(dollars.group())
    closing = syntax.quotes.get(where[at])
    if closing is None:
        return at + 1
    escapes = where[at] in syntax.escapes
    if syntax.dollars and where[at] == "'":
        escapes = where[at - 1 : at] in ("e", "E") and not _in_word(where, at - 1)
    at += 1
    while at < len(where):
        if where[at] == "\\" and escapes:
            at += 1
        elif where[at] == closing:
            # A doubled quote begins the next text at once, which comes to the same.
            return at + 1
        at += 1
    return -1


def _in_word(where: str, at: int) -> bool:
    before = where[at - 1 : at] if at else ""
    return before.isalnum() or before == "_"
