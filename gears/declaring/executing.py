"""Running a file of functions, which collects what it declares."""

from __future__ import annotations

import contextvars
import linecache
import sys
import types
from typing import TYPE_CHECKING, Any

from gears.declaring.errors import Mistake
from gears.declaring.functions import Function, Transform

if TYPE_CHECKING:
    from connectors import Target

_MODULE_NAME = "gearsync_functions"


class Declared:
    """What one call in a file of functions declared. ``function``: None if it has mistakes."""

    function: Function | None
    target: Target
    transform: Transform | None


class Collector:
    """What one execution of a file of functions declared."""

    def __init__(self) -> None:
        self.functions: list[Declared] = []
        self.settings: dict[str, Any] = {}
        self.settings_place = ""
        self.mistakes: list[Mistake] = []


collecting: contextvars.ContextVar[Collector | None] = contextvars.ContextVar("collector", default=None)


def execute(source: str, source_name: str, collector: Collector) -> dict[str, Any]:
    """Execute a file of functions, given as its text, into ``collector``; return its namespace.

    ``source_name`` stands for the file in places and tracebacks. What the source raises is not caught.
    """
    module = types.ModuleType(_MODULE_NAME)
    module.__file__ = source_name
    # Classes in the source (a dataclass, an enum) look their module up by its name.
    sys.modules[_MODULE_NAME] = module
    linecache.cache[source_name] = (len(source), None, source.splitlines(True), source_name)
    token = collecting.set(collector)
    try:
        exec(compile(source, source_name, "exec"), module.__dict__)  # noqa: S102 (the user's own file)
    finally:
        collecting.reset(token)
    return module.__dict__


def transforms_of(
    source: str, source_name: str, wanted: dict[str, str]
) -> tuple[dict[str, Transform], list[Mistake]]:
    """Execute ``source`` and find the transforms of functions in it; ``wanted`` is function name →
    transform name.

    A function that the source itself declares brings its transform with it; else the transform is the
    object of that name in the source.
    """
    collector = Collector()
    namespace = execute(source, source_name, collector)
    declared = {
        each.function.name: each.transform for each in collector.functions if each.function is not None
    }
    found: dict[str, Transform] = {}
    mistakes: list[Mistake] = []
    for function_name, transform_name in wanted.items():
        transform = declared.get(function_name) or namespace.get(transform_name)
        if callable(transform):
            found[function_name] = transform
        else:
            message = f"{source_name} defines no callable {transform_name}"
            mistakes.append(Mistake(source_name, function_name, "transform", message))
    return found, mistakes
