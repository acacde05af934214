"""The beginning of every uploaded script; script.py puts the call of ``readers`` behind it."""

from __future__ import annotations

from typing import Any


def readers(family: str, name: str, payload: str, packed: str) -> Any:
    """Return what the registrations call: on_event, on_batch, on_marks, on_command, on_registered,
    on_miss, on_loaded, on_write, on_other and on_queued.

    ``name`` is that of this version in ``sys.modules``, ``family`` what the names of all versions of the
    deployment begin with; ``packed`` holds the packages. All of it stands in closures, because RedisGears
    unpickles functions into globals that they share with those of other scripts.
    """
    import json
    import sys
    import types
    import zlib
    from base64 import b64decode
    from importlib import import_module
    from importlib.util import spec_from_loader

    def runtime() -> Any:
        """Return the deployment in this process; load it from what the script brought, if nobody has yet."""
        found = sys.modules.get(name)
        return load() if found is None else found.runtime

    def load() -> Any:
        """Make the deployment of this process, from the packages that the script brought.

        Their names are gone from sys.modules afterwards: another deployment brings its own.
        """
        sources = json.loads(zlib.decompress(b64decode(packed)).decode())

        class Finder:
            def find_spec(self, module: str, path: Any = None, target: Any = None) -> Any:
                if module not in sources:
                    return None
                return spec_from_loader(module, finder, is_package=sources[module][0])

            def create_module(self, spec: Any) -> None:
                return None

            def exec_module(self, module: Any) -> None:
                place = "<gearsync>/" + module.__name__.replace(".", "/")
                source = compile(sources[module.__name__][1], place, "exec")
                exec(source, module.__dict__)  # noqa: S102 (a module is run when it is imported)

        finder: Any = Finder()
        others = {each: sys.modules.pop(each) for each in sources if each in sys.modules}
        sys.meta_path.insert(0, finder)
        try:
            started = import_module("gears.redisgears.runtime").start
        finally:
            sys.meta_path.remove(finder)
            for each in sources:
                sys.modules.pop(each, None)
            sys.modules.update(others)
        holder = types.ModuleType(name)
        found = started(payload, sources)
        holder.__dict__.update(runtime=found, on_event=found.capture.quick)
        sys.modules[name] = holder
        return found

    def on_event(record: Any) -> Any:
        """Of KeysReader, on the main thread, for each write; False: nothing is kept of the execution."""
        found = sys.modules.get(name)
        return runtime().capture.on_event(record) if found is None else found.on_event(record)

    def on_batch(record: Any) -> bool:
        """Of StreamReader, in a thread of RedisGears."""
        runtime().on_batch(record)
        return False

    def on_marks(record: Any) -> bool:
        """Of StreamReader, in a thread of RedisGears."""
        runtime().on_marks(record)
        return False

    def on_command(arguments: Any) -> Any:
        """Of CommandReader, on the main thread."""
        return runtime().on_command(arguments)

    def on_registered() -> None:
        """Of CommandReader: at the deploy and at each start, so that no write waits for imports."""
        runtime().on_registered()
        for each in [each for each in sys.modules if each.startswith(family) and each != name]:
            sys.modules.pop(each).runtime.close()

    def on_miss(record: Any) -> Any:
        """Of KeysReader, in a thread of RedisGears, for a client that waits."""
        return runtime().reads.on_miss(record["key"])

    def on_loaded(reply: Any) -> bool:
        """Behind on_miss, in a thread of RedisGears: None, or what answers the client."""
        if reply is not None:
            reply()
        return False

    def on_write(arguments: Any) -> Any:
        """Of CommandReader, in place of a client's command, on the main thread."""
        return runtime().on_hook(arguments, runtime().through.on_write)

    def on_other(arguments: Any) -> Any:
        """The same, of commands that can't wait."""
        return runtime().on_hook(arguments, runtime().through.on_other)

    def on_queued(arguments: Any) -> Any:
        """The same, of commands in a MULTI."""
        return runtime().through.on_queued()

    # A shard that can't load it refuses the script, with the reason, before anything is registered.
    runtime()
    return (
        on_event,
        on_batch,
        on_marks,
        on_command,
        on_registered,
        on_miss,
        on_loaded,
        on_write,
        on_other,
        on_queued,
    )
