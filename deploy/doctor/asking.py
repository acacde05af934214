"""What one Redis says about itself; what it does not permit to ask is a note, and no end."""

from __future__ import annotations

from typing import Any

import redis

from deploy.doctor.findings import Place
from deploy.reaching.server_errors import is_busy

_SETTINGS = (
    "aof-use-rdb-preamble",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "stop-writes-on-bgsave-error",
    "maxmemory",
    "maxmemory-policy",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "protected-mode",
    "bind",
    "cluster-require-full-coverage",
)


class Redis:
    """One primary as INFO and CONFIG tell of it. ``settings`` lacks what could not be asked."""

    def __init__(self, client: redis.Redis, place: Place) -> None:
        self._client = client
        self.place = place
        info = self.ask("INFO", "everything")
        self.info: dict[str, Any] = info if isinstance(info, dict) else {}
        self.settings: dict[str, str] = self._settings()

    def ask(self, *command: Any) -> Any:
        """Return the reply to a command; None, with a note, where Redis does not permit or know it."""
        try:
            return self._client.execute_command(*command)
        except redis.exceptions.ResponseError as error:
            if is_busy(error):
                # Nothing else would be answered either.
                raise
            # Also NoPermissionError, and the unknown command that a renamed one is.
            named = str(command[0])
            self.place.note(
                "not-looked-at",
                f"{named} could not be asked: {error}.",
                "Findings that need it are missing here.",
                f"Let the user of --redis run it: ACL SETUSER … +{named.lower().replace(' ', '|')}.",
            )
            return None

    def _settings(self) -> dict[str, str]:
        # Redis 6.2 takes one pattern a command, and this leaves one note where all are refused.
        reply = self.ask("CONFIG GET", "*")
        pairs = reply.items() if isinstance(reply, dict) else ()
        return {_text(name): _text(value) for name, value in pairs if _text(name) in _SETTINGS}

    def number(self, name: str, missing: int = 0) -> int:
        """Return a whole number of INFO."""
        try:
            return int(self.info.get(name, missing))
        except (TypeError, ValueError):
            return missing

    @property
    def is_cluster(self) -> bool:
        """Whether it is a node of a cluster."""
        return self.number("cluster_enabled") == 1

    @property
    def is_valkey(self) -> bool:
        """Whether it is Valkey."""
        return self.info.get("server_name") == "valkey" or "valkey_version" in self.info

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server, Valkey's own of Valkey; empty when it is not known."""
        text = str(self.info.get("valkey_version" if self.is_valkey else "redis_version", ""))
        parts = text.split(".")
        return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()

    @property
    def title(self) -> str:
        """The server and its version, for sentences."""
        name = "Valkey" if self.is_valkey else "Redis"
        return f"{name} {'.'.join(map(str, self.version)) or 'of an unknown version'}"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
