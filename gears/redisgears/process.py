"""Starts the processes that work with a database, and talks with them.

child.py writes lanes, committer.py the writes of waiting clients, reader.py reads rows.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import IO, Any, Callable, Mapping

from gears.redisgears import frames
from gears.redisgears.api import log

Sources = Mapping[str, Any]
"""Whether a module is a package, and its text, by its name."""

LOADER = """
import importlib, importlib.util, marshal, os, struct, sys, traceback

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            return importlib.util.spec_from_loader(name, self, is_package=sources[name][0])

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        is_package, text = sources[module.__name__]
        exec(compile(text, "<gearsync>/" + module.__name__.replace(".", "/"), "exec"), module.__dict__)

requests = sys.stdin.buffer
(length,) = struct.unpack(">I", requests.read(4))
sources, sys.path[:], work = marshal.loads(requests.read(length))
sys.meta_path.insert(0, Finder())
answers = os.fdopen(os.dup(1), "wb")
try:
    importlib.import_module(work).main(requests)
except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = "%s: %s (%s, line %s)" % (type(error).__name__, error, place.filename, place.lineno)
    body = marshal.dumps(("ended", said))
    answers.write(struct.pack(">I", len(body)) + body)
    answers.flush()
    traceback.print_exc()
    # The thread that reads ahead would be in the way of an orderly end.
    os._exit(1)
"""
END_SECONDS = 10.0
"""How long the batch in flight may take once the pipe is closed."""


class ProcessEnded(Exception):
    """The process is gone; what it had not committed is rolled back."""


class Child:
    """One process for one target. Used by one thread at a time."""

    work = ""
    """The module whose ``main`` it runs."""
    does = ""

    def __init__(self, sources: Sources, payload: str, target: str) -> None:
        command = [_python(), "-c", LOADER]
        # Without buffers: at the server's end Python would abort over the lock of one that a thread waits at.
        self._popen = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            frames.send(self._requests, dict(sources), sys.path, self.work)
            frames.send(self._requests, payload, target)
        except OSError as error:
            raise self._ended() from error

    def kill(self) -> None:
        """End the process at once; the batch in flight is rolled back."""
        self._popen.kill()
        self._popen.wait()
        with contextlib.suppress(OSError):
            # What it did not read goes nowhere.
            self._requests.close()
        self._answers.close()

    def close(self) -> None:
        """End the process, after the batch in flight."""
        self._requests.close()
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._answers.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def _requests(self) -> IO[bytes]:
        assert self._popen.stdin is not None  # noqa: S101 (for mypy)
        return self._popen.stdin

    @property
    def _answers(self) -> IO[bytes]:
        assert self._popen.stdout is not None  # noqa: S101 (for mypy)
        return self._popen.stdout

    def _ended(self, said: str = "") -> ProcessEnded:
        said = said or self._last_words()
        self._popen.kill()
        code = self._popen.wait()
        if said:
            return ProcessEnded(f"the process that {self.does} the database ended: {said}")
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return ProcessEnded(f"the process that {self.does} the database ended {how}; see the server's output")

    def _last_words(self) -> str:
        """Return why it has ended by itself; empty: it did not say. A pipe of it must be closed."""
        try:
            while True:
                kind, *content = frames.receive(self._answers)
                if kind == "ended":
                    return str(content[0])
        except (OSError, EOFError):
            return ""


class Process(Child):
    """The process that writes a target's lanes to its database."""

    work = "gears.redisgears.child"
    does = "writes to"

    def send(self, attempt: int, stream: str, term: tuple[int, str], entries: list[Any]) -> None:
        """Have a batch written, unless one sent before in the same attempt is not. Raises ProcessEnded.

        ``term``: the epoch, and who the shard is in it (Shard.who).
        """
        try:
            frames.send(self._requests, attempt, stream, term, entries)
        except OSError as error:
            raise self._ended() from error

    def result(
        self, bury: Callable[[str, list[Any]], tuple[Any, ...]], outrank: Callable[[int], None]
    ) -> tuple[str, dict[str, Any], list[Any]]:
        """Wait for the oldest batch sent; return why it is not committed (empty: it is), the report, and who
        is to be told: entry, epoch, stream, and why it is refused (empty: it is in SQL; None: unknown here).

        ``bury`` stores dead letters; ``outrank`` sees to an epoch above that one. Raises ProcessEnded.
        """
        try:
            while True:
                kind, *content = frames.receive(self._answers)
                if kind == "done":
                    return content[0], content[1], content[2]
                if kind == "ended":
                    raise self._ended(content[0])
                if kind == "log":
                    log(content[1], content[0])
                elif kind == "doubled":
                    outrank(content[0])
                else:
                    frames.send(self._requests, *_attempt(bury, *content))
        except (OSError, EOFError) as error:
            raise self._ended() from error


class Reader(Child):
    """The process that reads a target's rows."""

    work = "gears.redisgears.reader"
    does = "reads"

    def read(self, wanted: list[tuple[str, list[bytes]]]) -> list[tuple[str, list[Any]]]:
        """Return for each function and its keys why they can't be read (empty: they are), and of each row its
        fields and values, flat (None: there is none). Raises ProcessEnded.
        """
        try:
            frames.send(self._requests, "read", wanted)
            kind, content = frames.receive(self._answers)
        except (OSError, EOFError) as error:
            raise self._ended() from error
        if kind == "ended":
            raise self._ended(content)
        found: list[tuple[str, list[Any]]] = content
        return found


class Committer(Child):
    """The process that commits the writes of waiting clients."""

    work = "gears.redisgears.committer"
    does = "writes to"

    def ask(self, *words: Any) -> tuple[str, bool, Any]:
        """Return what is wrong (empty: nothing), whether a COMMIT may have been done all the same, and what
        committer.py returns. Raises ProcessEnded.
        """
        try:
            frames.send(self._requests, *words)
            kind, *content = frames.receive(self._answers)
        except (OSError, EOFError) as error:
            raise self._ended() from error
        if kind == "ended":
            raise self._ended(content[0])
        return content[0], content[1], content[2]


def _attempt(
    bury: Callable[[str, list[Any]], tuple[Any, ...]], stream: str, letters: list[Any]
) -> tuple[tuple[Any, ...], str]:
    try:
        return bury(stream, letters), ""
    except Exception as error:
        return (), f"{error}"


def _python() -> str:
    """Return the Python of the environment that RedisGears works in."""
    for name in ("python3", "python"):
        path = os.path.join(sys.prefix, "bin", name)
        if os.path.exists(path):
            return path
    raise ProcessEnded(f"there is no Python in {sys.prefix}/bin to work with the database")
