"""Load what a user declared, from a Python file or from a TOML file; both become the same deployment."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from typing import Any

from connectors import Target, TargetError
from gears.declaring.deployment import Deployment, settings_arguments, unknown_option
from gears.declaring.errors import DeclarationError, Mistake
from gears.declaring.executing import Collector, execute, transforms_of
from gears.declaring.functions import Function, build
from gears.declaring.mapping import POLICIES
from gears.declaring.patterns import PATTERNS, Around, Behind, Reading, Through, options_of
from gears.declaring.together import check_together

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TARGET_OPTIONS = ("url", "schema")
_SHAPES = ("rest", "rest_bytes", "deleted_at")
_MAPPING_OPTIONS = ("kind", "name", "keys", "table", "target", "columns", "db", *_SHAPES)
_WRITE_OPTIONS = (
    *_MAPPING_OPTIONS, "fields", "transform", "constants", "computed", "history", *POLICIES
)  # fmt: skip
_KIND_OPTIONS = ("type", "members")
FUNCTION_OPTIONS = {
    Behind.kind: (*_WRITE_OPTIONS, "operations", *_KIND_OPTIONS),
    Through.kind: (*_WRITE_OPTIONS, *options_of(Through.kind)),
    Reading.kind: (*_MAPPING_OPTIONS, *options_of(Reading.kind)),
    Around.kind: (*_MAPPING_OPTIONS, *options_of(Around.kind)),
}
TOP_LEVEL = (
    "name", "lanes", "batch", "interval_ms", "backlog", "worker", "transactions", "requirements",
    "source", "targets", "functions",
)  # fmt: skip
_FUNCTION_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*functions[ \t]*\]\]", re.MULTILINE)


def load(path: str, name: str | None = None) -> Deployment:
    """Read the deployment that the file at ``path`` declares; ``.toml`` is the form without code.

    ``name`` goes before the file's own name for the deployment, which goes before the name of the file.
    Raises DeclarationError, which lists every mistake with its place. Asks neither Redis nor a database. What
    the file prints goes to standard error: standard output is for results.
    """
    shown = os.path.relpath(path) if not os.path.relpath(path).startswith(os.pardir) else path
    try:
        # Some editors put a mark before UTF-8.
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        reason = f"the file can't be read: {error.strerror}"
        raise DeclarationError([Mistake(shown, "", "", reason)]) from error
    except UnicodeDecodeError as error:
        raise DeclarationError([Mistake(shown, "", "", f"the file is not UTF-8: {error}")]) from error
    draft = _Draft(shown)
    if path.endswith(".toml"):
        _read_toml(draft, text)
    else:
        _read_python(draft, text)
    return draft.finish(name)


class _Draft:
    """A deployment under way: what is sound so far, and every mistake."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.functions: list[Function] = []
        self.targets: dict[str, Target] = {}
        self.target_names: list[str] = []
        self.settings: dict[str, Any] = {}
        self.settings_place = path
        self.source = ""
        self.source_name = ""
        self.mistakes: list[Mistake] = []

    def add_mistake(self, message: str, function: str = "", option: str = "", place: str = "") -> None:
        self.mistakes.append(Mistake(place or self.path, function, option, message))

    def finish(self, name: str | None) -> Deployment:
        settings = dict(self.settings)
        if name is not None:
            settings["name"] = name
        elif "name" not in settings:
            stem = os.path.splitext(os.path.basename(self.path))[0]
            settings["name"] = re.sub(r"[^A-Za-z0-9_-]", "_", stem)[:64]
        arguments, mistakes = settings_arguments(settings, self.settings_place)
        self.mistakes.extend(mistakes)
        deployment = Deployment(**{"name": "", **arguments}, functions=self.functions, targets=self.targets)
        if any(function.transform_name is not None for function in self.functions):
            deployment.source = self.source
            deployment.source_name = self.source_name
        if not self.mistakes:
            self.mistakes.extend(check_together(deployment, self.path))
        if self.mistakes:
            raise DeclarationError(self.mistakes)
        return deployment


# -- Python ------------------------------------------------------------------------------------------------


def _read_python(draft: _Draft, text: str) -> None:
    collector = Collector()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            execute(text, draft.path, collector)
    except DeclarationError as error:
        draft.mistakes.extend(error.mistakes)
    except (Exception, SystemExit) as error:
        draft.mistakes.append(_raised(error, draft.path))
    draft.source, draft.source_name = text, os.path.basename(draft.path)
    draft.settings = collector.settings
    draft.settings_place = collector.settings_place or draft.path
    draft.mistakes.extend(collector.mistakes)
    for declared in collector.functions:
        if declared.function is not None:
            draft.functions.append(declared.function)
            _add_target(draft, declared.target, declared.function)


def _add_target(draft: _Draft, target: Target, function: Function) -> None:
    known = draft.targets.setdefault(target.name, target)
    if (known.reference, known.schema) != (target.reference, target.schema):
        message = (
            f"two different targets are called {target.name}: {known.reference} and {target.reference}; "
            'give one of them name="…"'
        )
        draft.add_mistake(message, function.name, "target", function.place)


def _raised(error: BaseException, path: str) -> Mistake:
    """Make a mistake of what the user's file raised, placed where the file was when it raised."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return Mistake(f"{path}:{error.lineno}", "", "", f"this is not Python: {error.msg}")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    place = f"{path}:{lines[-1]}" if lines else path
    if isinstance(error, ImportError):
        message = (
            f"{error}. The file is loaded by itself, here and in the worker: install what it imports here, "
            "name it in requirements, and keep its own helpers in the same file"
        )
        return Mistake(place, "", "", message)
    if isinstance(error, SystemExit):
        return Mistake(place, "", "", "the file ends the program; a file of functions only declares")
    if isinstance(error, TargetError):
        return Mistake(place, "", "", str(error))
    return Mistake(place, "", "", f"{type(error).__name__}: {error}")


# -- TOML --------------------------------------------------------------------------------------------------


def _read_toml(draft: _Draft, text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        draft.add_mistake(f"this is not TOML: {error}")
        return
    except RecursionError:
        draft.add_mistake("this is nested too deeply")
        return
    for key in document:
        if key not in TOP_LEVEL:
            draft.add_mistake(unknown_option(key, TOP_LEVEL), option=key)
    draft.settings = {
        key: value
        for key, value in document.items()
        if key in TOP_LEVEL and key not in ("source", "targets", "functions")
    }
    _read_targets(draft, document.get("targets", {}))
    places = [text.count("\n", 0, found.end()) + 1 for found in _FUNCTION_HEADER.finditer(text)]
    functions = document.get("functions", [])
    if not isinstance(functions, list) or not all(isinstance(each, dict) for each in functions):
        draft.add_mistake("write each function as a table under [[functions]]", option="functions")
        functions = []
    for index, options in enumerate(functions):
        # Functions written as inline tables have no header of their own, so no line either.
        place = f"{draft.path}:{places[index]}" if len(places) == len(functions) else draft.path
        _read_function(draft, options, place)
    _read_source(draft, document.get("source"))
    used = {function.target_name for function in draft.functions}
    draft.targets = {name: target for name, target in draft.targets.items() if name in used}


def _read_targets(draft: _Draft, targets: Any) -> None:
    if not isinstance(targets, dict):
        draft.add_mistake("write each target as a table, [targets.NAME]", option="targets")
        return
    draft.target_names = list(targets)
    for name, options in targets.items():
        option = f"targets.{name}"
        known = options if isinstance(options, dict) else {}
        for key in known:
            if key not in TARGET_OPTIONS:
                draft.add_mistake(unknown_option(key, TARGET_OPTIONS), "", f"{option}.{key}")
        if not isinstance(known.get("url"), str):
            message = 'a target needs url = "env:NAME", "file:PATH" or a URL without password'
            draft.add_mistake(message, "", option)
            continue
        try:
            draft.targets[name] = Target(options["url"], name=name, schema=options.get("schema"))
        except (TargetError, ValueError) as error:
            draft.add_mistake(str(error), "", option)


def _read_function(draft: _Draft, options: dict[str, Any], place: str) -> None:
    shown = str(options.get("name") or options.get("table") or "")
    before = len(draft.mistakes)
    kind = options.get("kind")
    if not isinstance(kind, str) or kind not in PATTERNS:
        kinds = ", ".join(f'"{each}"' for each in PATTERNS)
        draft.add_mistake(f"{kind!r} is no kind of function; the kinds are {kinds}", shown, "kind", place)
        kind = Behind.kind
    for key in options:
        if key in _KIND_OPTIONS and kind != Behind.kind:
            message = f"{kind} is for hashes alone; only write-behind has other types of keys"
            draft.add_mistake(message, shown, key, place)
        elif key not in FUNCTION_OPTIONS[kind]:
            draft.add_mistake(unknown_option(key, FUNCTION_OPTIONS[kind]), shown, key, place)
    target = options.get("target")
    if not isinstance(target, str) or target not in draft.target_names:
        message = f"there is no target {target!r}; the targets are {', '.join(draft.target_names) or 'none'}"
        draft.add_mistake(message, shown, "target", place)
    transform = options.get("transform")
    if transform is not None and not isinstance(transform, str):
        draft.add_mistake("write the name of a function in source", shown, "transform", place)
        transform = None
    function, mistakes = build(kind, options, str(target), transform, place)
    draft.mistakes.extend(mistakes)
    if function is not None and len(draft.mistakes) == before:
        draft.functions.append(function)


def _read_source(draft: _Draft, source: Any) -> None:
    """Read the file that holds the transforms, and see that each one is there."""
    wanted = {each.name: each.transform_name for each in draft.functions if each.transform_name is not None}
    if source is None:
        for name in wanted:
            message = 'name the Python file that holds it, at the top: source = "transforms.py"'
            draft.add_mistake(message, name, "transform")
        return
    if not isinstance(source, str):
        draft.add_mistake(f"{source!r} is not the path of a Python file", option="source")
        return
    path = os.path.join(os.path.dirname(draft.path), source)
    try:
        with open(path, encoding="utf-8-sig") as file:
            draft.source = file.read()
    except (OSError, UnicodeDecodeError) as error:
        draft.add_mistake(f"{path} can't be read: {error}", option="source")
        return
    draft.source_name = os.path.basename(path)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            draft.mistakes.extend(transforms_of(draft.source, path, wanted)[1])
    except (Exception, SystemExit) as error:
        draft.mistakes.append(_raised(error, path))
