"""The packages of RedisGears' Python on all shards: found, fetched, exported and imported.

RedisGears installs what comes with RG.PYEXECUTE … REQUIREMENTS while it holds the whole server, for seconds,
on each shard. So what lacks is fetched by pip on one shard, and brought to all by RG.PYIMPORTREQ: neither
holds up Redis. A deployment's session then names it by REQUIREMENTS, and RedisGears keeps it for restarts.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from packaging.utils import parse_wheel_filename

from deploy.hosts import inside
from deploy.hosts.bundles import Bundle, BundleError, decode
from deploy.hosts.replies import as_dict, last_line, patient, short_errors, text

FETCH_SECONDS = 600.0
"""How long pip may take for the wheels of one requirement."""
INSTALL_SECONDS = 600.0
"""How long the shards may take to install one."""
POLL_SECONDS = 0.3
READ_BYTES = 4 * 1024 * 1024
IDLE_SETTING = "PythonInstallReqMaxIdleTime"
"""After so many milliseconds RedisGears gives up waiting for the other shards; 30,000 unless set."""

# RedisGears gives all scripts' functions one set of global names, so that this one has but its own.
_CALL = """
def gearsync_answers():
    import json

    if not {shard!r} or execute("CLUSTER", "MYID") == {shard!r}:
        names = {{}}
        exec({functions!r}, names)
        yield json.dumps(eval({call!r}, names))

GB("PythonReader").run(gearsync_answers)
"""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Known:
    """A requirement in a shard's list."""

    requirement: str
    wheels: tuple[str, ...]
    is_downloaded: bool


class Packages:
    """All shards' packages, by the client of one. Raises redis-py's errors; a refusal is a ResponseError."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def known(self) -> list[Known]:
        """Return the requirements that this shard has had installed, or is having."""
        reply: Any = self._client.execute_command("RG.PYDUMPREQS")
        return sorted(map(_known, reply), key=lambda each: each.requirement)

    def used(self, prefix: str) -> set[str]:
        """Return the requirements that sessions name whose ids begin so."""
        reply: Any = self._client.execute_command("RG.PYDUMPSESSIONS")
        sessions = [each for each in map(as_dict, reply) if text(each["ID"]).startswith(prefix)]
        return {text(requirement) for each in sessions for requirement in each["requirements"]}

    def look(self, modules: list[str]) -> list[dict[str, str]]:
        """Return for each shard whether it has these modules, and from where: see inside.look."""
        return self._run(f"look({modules!r})")

    def export(self, requirement: str) -> Bundle:
        """Return what this shard has fetched for a requirement."""
        with patient(self._client, INSTALL_SECONDS) as client:
            reply: Any = client.execute_command("RG.PYEXPORTREQ", requirement)
        try:
            return decode(b"".join(reply[1]))
        except BundleError as error:
            raise redis.ResponseError(f"what RG.PYEXPORTREQ gives can't be read: {error}") from error

    def bring(self, bundle: Bundle) -> None:
        """Have a requirement installed on all shards, while Redis goes on serving."""
        self._require_suitable(bundle)
        with self._unhurried(), patient(self._client, INSTALL_SECONDS) as client:
            try:
                client.execute_command("RG.PYIMPORTREQ", *bundle.parts())
            except redis.ResponseError as error:
                raise redis.ResponseError(
                    f"{bundle.requirement} can't be installed on every shard ({error}); the log of the "
                    "shards has what pip said"
                ) from error

    def _require_suitable(self, bundle: Bundle) -> None:
        """Refuse what a shard could not install: RedisGears would keep it under that name nevertheless."""
        for supported in map(set, self._run("tags()")):
            for wheel in bundle.wheels:
                if supported.isdisjoint(map(str, parse_wheel_filename(wheel)[3])):
                    raise redis.ResponseError(
                        f"{wheel} is not for the processor and system of every shard; "
                        "export it from a like one"
                    )

    def fetch(self, requirement: str, progress: Progress) -> Bundle:
        """Have pip on this shard fetch the wheels of a requirement."""
        shard = self._shard_id()
        [[folder, group]] = self._run(f"begin({requirement!r})", shard)
        try:
            wheels = self._wait(requirement, shard, folder, progress)
            found = {name: self._read(shard, folder, name, size) for name, size in wheels.items()}
            return Bundle(requirement, found)
        finally:
            self._run(f"end({folder!r}, {group!r})", shard)

    # -- pip on a shard ----------------------------------------------------------------------------------

    def _wait(self, requirement: str, shard: str, folder: str, progress: Progress) -> dict[str, int]:
        """Return the names and sizes of the wheels, when pip has them all."""
        deadline = time.monotonic() + FETCH_SECONDS
        while time.monotonic() < deadline:
            [state] = self._run(f"progress({folder!r})", shard)
            if state["code"] == 0:
                wheels: dict[str, int] = state["wheels"]
                return wheels
            if state["code"] is not None:
                raise redis.ResponseError(
                    f"pip on the shard can't get {requirement}: {_reason(state['said'])}. Correct it, let "
                    "the shard reach a package index, or bring it by gearsync requirements import"
                )
            progress(f"Fetching {requirement} on the shard")
            time.sleep(POLL_SECONDS)
        raise redis.ResponseError(f"pip on the shard did not get {requirement} in {FETCH_SECONDS:g} s")

    def _read(self, shard: str, folder: str, wheel: str, size: int) -> bytes:
        parts = []
        for offset in range(0, size, READ_BYTES):
            [encoded] = self._run(f"part({folder!r}, {wheel!r}, {offset}, {READ_BYTES})", shard)
            parts.append(base64.b64decode(encoded))
        return b"".join(parts)

    def _shard_id(self) -> str:
        info: Any = self._client.info("cluster")
        return text(self._client.execute_command("CLUSTER MYID")) if info.get("cluster_enabled") else ""

    def _run(self, call: str, shard: str = "") -> list[Any]:
        """Return what a function of inside.py answers on each shard, or on the one with this id."""
        functions = Path(str(inside.__file__)).read_text(encoding="utf-8")
        script = _CALL.format(functions=functions, call=call, shard=shard)
        with short_errors():
            reply: Any = self._client.execute_command("RG.PYEXECUTE", script)
        answers, errors = reply
        if errors:
            raise redis.ResponseError(last_line(text(errors[0])))
        return [json.loads(each) for each in answers]

    @contextmanager
    def _unhurried(self) -> Iterator[None]:
        """Let RedisGears wait for the shards as long as we do."""
        [before] = self._client.execute_command("RG.CONFIGGET", IDLE_SETTING)
        self._client.execute_command("RG.CONFIGSET", IDLE_SETTING, int(INSTALL_SECONDS * 1000))
        try:
            yield
        finally:
            self._client.execute_command("RG.CONFIGSET", IDLE_SETTING, int(before))


def _known(reply: Any) -> Known:
    found = as_dict(reply)
    is_downloaded = text(found["IsDownloaded"]) == "yes"
    wheels = tuple(map(text, found["Wheels"])) if is_downloaded else ()
    return Known(text(found["Name"]), wheels, is_downloaded)


def _reason(said: list[str]) -> str:
    """Return the last of pip's errors, else the last that it said."""
    lines = [each.strip() for each in said if each.strip()]
    errors = [each[len("ERROR:") :].strip() for each in lines if each.startswith("ERROR:")]
    return (errors or lines or ["it did not say why"])[-1].rstrip(".")
