"""Who may reach Redis, and do everything there."""

from __future__ import annotations

import ipaddress
from typing import Any

from deploy.doctor.asking import Redis


def check(server: Redis) -> None:
    """Look at the user ``default`` of one shard."""
    user = server.ask("ACL GETUSER", "default")
    if not isinstance(user, dict):
        return
    flags = [_text(each) for each in user.get("flags", ())]
    is_open = "on" in flags and "nopass" in flags
    if not is_open or _only_here(server.settings):
        return
    server.place.warn(
        "default-user",
        "The user default needs no password, and the server listens beyond its machine.",
        "Whoever reaches it reads and writes all keys, and may drop the changes that wait.",
        "ACL SETUSER default resetpass >PASSWORD (or off), and a user of its own for each program.",
    )


def _only_here(settings: dict[str, str]) -> bool:
    """Whether only this very machine reaches the server, by its own settings; None known: it does not say."""
    if settings.get("protected-mode") != "no":
        return True
    places = settings.get("bind", "").replace("-", "").split()
    return bool(places) and all(_is_loopback(place) for place in places)


def _is_loopback(place: str) -> bool:
    try:
        return ipaddress.ip_address(place).is_loopback
    except ValueError:
        return place == "localhost"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
