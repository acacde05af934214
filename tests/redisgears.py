"""RedisGears 1.2 for tests: a redis-server with what the folder GEARSYNC_TEST_REDISGEARS_HOME has.

It has ``redisgears.so``, ``gears_python.so`` and ``python3_<version>``: the CPython 3.7 (or a virtual
environment of it) that the plugin was built for, with SQLAlchemy, PyMySQL, psycopg and redis installed.
A plugin that was built with a ``CPYTHON_PATH`` which exists takes the Python there, whatever its
``PythonInstallationDir`` says: tests that give it a copy, to install into or to damage, then fail.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.choice import KINDS
from tests.servers import RedisServer, ServerError

HOME_VARIABLE = "GEARSYNC_TEST_REDISGEARS_HOME"
HOW_TO_RUN = KINDS["redisgears"].advice
ABSENT = f"no RedisGears: {HOW_TO_RUN}"


def home() -> Path | None:
    """Return the folder that the environment names; None: none. Raises ServerError when it lacks a part."""
    named = os.environ.get(HOME_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    for pattern in ("redisgears.so", "gears_python.so", "python3_*"):
        if not list(folder.glob(pattern)):
            raise ServerError(f"{HOME_VARIABLE}: there is no {pattern} in {folder}; {HOW_TO_RUN}")
    return folder


def skip_without_redisgears() -> None:
    """Skip the module of tests that calls this, in one line, where there is no RedisGears."""
    if home() is None:
        pytest.skip(ABSENT, allow_module_level=True)


class Scripted:
    """What tests ask of a RedisGears, wherever it runs."""

    can_be_killed = True

    def client(self, **options: Any) -> redis.Redis:
        """Return a new client that answers bytes; the options are those of redis.Redis."""
        raise NotImplementedError

    def run(self, script: str, *arguments: str) -> Any:
        """Run a script by RG.PYEXECUTE. Raises ServerError with what the script raised."""
        with self.client() as client:
            try:
                reply = client.execute_command("RG.PYEXECUTE", script, *arguments)
            except redis.ResponseError as error:
                raise ServerError(f"the script failed: {error}") from error
        if isinstance(reply, list) and len(reply) == 2 and reply[1]:
            raise ServerError(f"the script failed: {b', '.join(reply[1]).decode('utf-8', 'replace')}")
        return reply

    def registrations(self) -> list[dict[str, Any]]:
        """Return what RG.DUMPREGISTRATIONS says, with texts as str."""
        with self.client(decode_responses=True) as client:
            return [_as_dict(each) for each in client.execute_command("RG.DUMPREGISTRATIONS")]


class RedisGears(RedisServer, Scripted):
    """A redis-server with RedisGears 1.2.

    ``options`` are the server's: ``RedisGears("--appendonly", "yes")``. ``python_path``: folders from which
    its Python imports besides its own. ``environment``: variables besides those of the tests. ``settings``:
    further arguments of the module. ``python``: another Python than the one in the home.
    """

    name = "redisgears"
    #: It may make a virtual environment, and have pip install into it, before it answers.
    start_seconds = 300.0

    def __init__(
        self,
        *options: str,
        python_path: Sequence[str | Path] = (),
        environment: dict[str, str] | None = None,
        settings: Sequence[str] = (),
        python: str | Path | None = None,
        binary: str | None = None,
        directory: str | Path | None = None,
        port: int | None = None,
    ) -> None:
        folder = home()
        if folder is None:
            raise ServerError(ABSENT)
        super().__init__(
            *options, module=str(folder / "redisgears.so"), binary=binary, directory=directory, port=port
        )
        # The installation is looked for by this name, below a folder to which the module also writes.
        self._home_python = min(folder.glob("python3_*"))
        self._python = Path(python) if python is not None else self._home_python
        self._python_path = [str(each) for each in python_path]
        self._variables = dict(environment or {})
        self.module_arguments = (
            *("Plugin", str(folder / "gears_python.so")),
            *("PythonInstallationDir", str(self.directory)),
            *("CreateVenv", "0", *settings),
        )

    def _prepare(self) -> None:
        link = self.directory / self._home_python.name
        if not link.exists():
            link.symlink_to(self._python.resolve())

    def _environment(self) -> dict[str, str] | None:
        variables = {**os.environ, **self._variables}
        # The Python of the tests is another one.
        variables.pop("PYTHONPATH", None)
        variables.pop("VIRTUAL_ENV", None)
        if self._python_path:
            variables["PYTHONPATH"] = os.pathsep.join(self._python_path)
        return variables


def _as_dict(pairs: Any) -> dict[str, Any]:
    made = dict(zip(pairs[::2], pairs[1::2]))
    for name in ("RegistrationData", "args"):
        if isinstance(made.get(name), list):
            made[name] = _as_dict(made[name])
    return made
