"""Where something of ours listens, as a user writes it."""

from __future__ import annotations


def host_and_port(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``[IPv6]:PORT``; port 0 is one that is free. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    is_bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not (colon and host and port.isdecimal() and int(port) < 65536) or is_bare_ipv6 or not _is_name(host):
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464")
    return host.strip("[]"), int(port)


def _is_name(host: str) -> bool:
    """Whether the system's resolver can be asked for a host."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True
