"""A RedisGears that the tests did not start as a process of their own: given by a URL, or run by Docker."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from testcontainers.core.container import DockerContainer
from typing_extensions import Self

from tests.redisgears import Scripted
from tests.servers import START_SECONDS, ServerError, free_port

#: Where the image has its module (docker-compose.yml loads it from there as well).
MODULE = "/var/opt/redislabs/lib/modules/redisgears.so"
PLUGIN = "/var/opt/redislabs/modules/rg/plugin/gears_python.so"
#: What a deployment needs inside, in versions that CPython 3.7 has.
DRIVERS = (
    *("SQLAlchemy>=2.0.20", "PyMySQL>=1.1", "psycopg[binary]>=3.1.8", "redis>=5.0.1"),
    # They need these on 3.7 alone, which the pip of a newer Python can't know.
    *("importlib-metadata", "zipp", "async-timeout", "backports.zoneinfo"),
)


class GivenRedisGears(Scripted):
    """A server that somebody else runs. It must be empty, and is left so: it can't be started or killed."""

    can_be_killed = False

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, **options: Any) -> redis.Redis:
        client: redis.Redis = redis.Redis.from_url(self.url, **options)
        return client

    def __enter__(self) -> Self:
        with self.client() as client:
            if client.dbsize() or self.registrations():
                raise ServerError("the given RedisGears is not empty: the tests would delete what it has")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.client() as client:
            for each in self.registrations():
                client.execute_command("RG.UNREGISTER", each["id"])
            client.flushall()


class ContainerRedisGears(Scripted):
    """A server in a container, on this machine's own network, so that it reaches what the tests started.

    ``options``, ``python_path``, ``environment`` and ``settings`` are those of RedisGears. Its folder is one
    of this machine, so that it can be started again after a kill.
    """

    def __init__(
        self,
        image: str,
        *options: str,
        python_path: Sequence[str | Path] = (),
        environment: dict[str, str] | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="gearsync-redisgears-"))
        self._drivers = self.directory / "drivers"
        paths = [str(self._drivers), *(str(each) for each in python_path)]
        self._container: Any = DockerContainer(image).with_kwargs(network="host")
        for name, value in {**(environment or {}), "PYTHONPATH": ":".join(paths)}.items():
            self._container.with_env(name, value)
        for folder in {self.directory, *_mounted(python_path)}:
            self._container.with_volume_mapping(
                str(folder), str(folder), "rw" if folder == self.directory else "ro"
            )
        command = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.directory),
            "--save",
            "",
        ]
        module = ["--loadmodule", MODULE, "Plugin", PLUGIN, "CreateVenv", "0", *settings]
        self._container.with_command([*command, *options, *module])

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def start(self) -> Self:
        """Get the drivers, start the container and wait until the server answers."""
        # The image's own user writes there.
        self.directory.chmod(0o777)
        install_drivers(self._drivers)
        self._container.start()
        self._wait_until_ready()
        return self

    def stop(self) -> None:
        """Stop the container, remove it, and its folder."""
        self._container.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill9(self) -> None:
        """End the server as a crash would; its data stays."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> Self:
        """Start the server again after a kill."""
        self._container.get_wrapped_container().start()
        self._wait_until_ready()
        return self

    def log_text(self) -> str:
        """Return all that the server has logged so far, over all its starts."""
        return b"".join(self._container.get_logs()).decode("utf-8", "replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self.client(socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:
                    if time.monotonic() > deadline:
                        raise ServerError(f"RedisGears does not answer: {self.log_text()[-3000:]}") from error
                time.sleep(0.2)


def _mounted(python_path: Sequence[str | Path]) -> set[Path]:
    """Return the folders of a Python path, and those that links in them lead to."""
    folders = {Path(each) for each in python_path}
    return folders | {each.resolve() for folder in folders for each in folder.iterdir() if each.is_symlink()}


def install_drivers(folder: Path) -> None:
    """Install what the Python 3.7 of the image needs into a folder; by the pip of this Python."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--upgrade"]
    command += ["--python-version", "3.7", "--only-binary", ":all:", *DRIVERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerError(f"the drivers for RedisGears' Python could not be installed: {done.stderr[-2000:]}")
