"""What a crash of Redis would take: writes and waiting changes are as durable as its files."""

from __future__ import annotations

from deploy.doctor.asking import Redis

_TODO_AOF = "CONFIG SET appendonly yes, and the same in its configuration file."


def check(server: Redis) -> None:
    """Look at the AOF and the snapshots of one shard."""
    if not server.info:
        return
    if server.number("loading"):
        server.place.error("loading", "The server is loading its data.", "Nothing is captured yet.", "Wait.")
    has_aof = server.number("aof_enabled") == 1
    if has_aof:
        _check_aof(server)
    else:
        _check_without_aof(server)
    _check_snapshots(server, has_aof)


def _check_aof(server: Redis) -> None:
    place = server.place
    fsync = server.settings.get("appendfsync")
    if fsync == "no":
        place.warn(
            "appendfsync",
            "appendfsync is no.",
            "A crash of the machine loses what the system had not written, some 30 s of writes and changes.",
            "CONFIG SET appendfsync everysec, or always.",
        )
    elif fsync == "everysec":
        place.note(
            "appendfsync",
            "appendfsync is everysec.",
            "A crash of the machine loses up to a second of writes with their changes; if SQL has them "
            "already, it is ahead of Redis.",
            "Where that matters: CONFIG SET appendfsync always.",
        )
    if server.settings.get("no-appendfsync-on-rewrite") == "yes" and fsync != "no":
        place.warn(
            "no-appendfsync-on-rewrite",
            "no-appendfsync-on-rewrite is yes.",
            f"While the AOF is rewritten, {fsync} is as no: a crash then loses some 30 s.",
            "CONFIG SET no-appendfsync-on-rewrite no.",
        )
    if server.info.get("aof_last_write_status", "ok") != "ok":
        place.error(
            "aof-write",
            "The last write to the AOF failed.",
            "Redis refuses writes until one succeeds; most often the disk is full.",
            "Make room on its disk; Redis goes on by itself.",
        )
    if server.info.get("aof_last_bgrewrite_status", "ok") != "ok":
        place.warn(
            "aof-rewrite",
            "The last rewrite of the AOF failed.",
            "The file grows until the disk is full.",
            "See the server's log for the reason; then BGREWRITEAOF.",
        )


def _check_without_aof(server: Redis) -> None:
    saves = server.settings.get("save")
    if saves == "":
        server.place.error(
            "appendonly",
            "appendonly is off, and so are snapshots.",
            "A restart loses every key, all changes that wait, and the deployments.",
            _TODO_AOF,
        )
    else:
        server.place.warn(
            "appendonly",
            "appendonly is off.",
            "A crash loses what the last snapshot lacks, writes and waiting changes alike. SQL may have some "
            "of them, and is ahead of Redis then.",
            _TODO_AOF,
        )


def _check_snapshots(server: Redis, has_aof: bool) -> None:
    place = server.place
    stops = server.settings.get("stop-writes-on-bgsave-error", "yes")
    if server.info.get("rdb_last_bgsave_status", "ok") != "ok":
        refused = stops == "yes" and server.settings.get("save") != ""
        why = "Writes are refused until one succeeds." if refused else "A restart would load an older one."
        add = place.warn if has_aof and not refused else place.error
        add("bgsave", "The last snapshot failed.", why, "See the server's log; most often the disk is full.")
    if not has_aof and stops == "no":
        place.warn(
            "stop-writes-on-bgsave-error",
            "stop-writes-on-bgsave-error is no.",
            "Without an AOF, writes go on when no snapshot succeeds any more, and a crash loses them.",
            "CONFIG SET stop-writes-on-bgsave-error yes.",
        )
