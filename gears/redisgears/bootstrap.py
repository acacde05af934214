"""The beginning of every uploaded script; script.py puts the values in. Its functions are pickled whole."""

from __future__ import annotations

import sys
from typing import Any

# script.py puts values into these four lines.
FAMILY = ""
RUNTIME = ""
PAYLOAD = ""
SOURCES = ""


def runtime() -> Any:
    """Return the deployment in this process; load it from what the script brought, if nobody has yet."""
    found = sys.modules.get(RUNTIME)
    return load() if found is None else found.runtime


def load() -> Any:
    """Make the deployment of this process, from the packages that the script brought.

    Their names are gone from sys.modules afterwards: another deployment brings its own.
    """
    import importlib.util
    import json
    import types
    import zlib
    from base64 import b64decode

    sources = json.loads(zlib.decompress(b64decode(SOURCES)).decode())

    class Finder:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
            if name not in sources:
                return None
            return importlib.util.spec_from_loader(name, finder, is_package=sources[name][0])

        def create_module(self, spec: Any) -> None:
            return None

        def exec_module(self, module: Any) -> None:
            name = module.__name__
            place = "<gearsync>/" + name.replace(".", "/")
            exec(compile(sources[name][1], place, "exec"), module.__dict__)

    finder: Any = Finder()
    others = {name: sys.modules.pop(name) for name in sources if name in sys.modules}
    sys.meta_path.insert(0, finder)
    try:
        started = importlib.import_module("gears.redisgears.runtime").start
    finally:
        sys.meta_path.remove(finder)
        for name in sources:
            sys.modules.pop(name, None)
        sys.modules.update(others)
    holder = types.ModuleType(RUNTIME)
    found = started(PAYLOAD, sources)
    holder.__dict__.update(runtime=found, on_event=found.capture.on_event)
    sys.modules[RUNTIME] = holder
    return found


def on_registered() -> None:
    """Of CommandReader: at the deploy and at each start, so that no write waits for imports."""
    runtime()
    for name in [each for each in sys.modules if each.startswith(FAMILY) and each != RUNTIME]:
        sys.modules.pop(name).runtime.close()


def on_event(record: Any) -> Any:
    """Of KeysReader, on the main thread, for each write; False: nothing is kept of the execution."""
    found = sys.modules.get(RUNTIME)
    return runtime().capture.on_event(record) if found is None else found.on_event(record)


def on_batch(record: Any) -> bool:
    """Of StreamReader."""
    runtime().on_batch(record)
    return False


def on_command(arguments: Any) -> Any:
    """Of CommandReader."""
    return runtime().on_command(arguments)
