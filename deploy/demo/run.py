"""The demo: the whole way from a plain HSET to a reporting query, on this machine, in one command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
import sqlalchemy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy import barrier, output, status
from deploy.demo import data
from deploy.demo import database as demo_database
from deploy.demo.database import Database
from deploy.output import CommandError
from deploy.reaching import shards
from deploy.running import server

VARIABLE = "REPORTING_DB_URL"
MARK = ".gearsync-demo"
START_SECONDS = 30.0
WAIT_SECONDS = 300.0
SHOWN_DIFFERENCES = 5


@dataclass
class Timing:
    """Seconds that the parts took, and how many writes there were."""

    writes: int
    writing: float
    settling: float


def run(target: str, keys: int, folder: str) -> None:
    """Run the demo in ``folder``. Raises CommandError when anything fails or differs."""
    _make_folder(folder)
    functions = os.path.join(folder, "functions.py")
    with open(functions, "w", encoding="utf-8") as file:
        file.write(data.FUNCTIONS)
    with demo_database.opened(target, folder) as database:
        engine = sqlalchemy.create_engine(database.url)
        _create_table(engine, database)
        # Where the worker, a child of the server's, and the deploy below look for it.
        os.environ[VARIABLE] = database.url.render_as_string(hide_password=False)
        with _redis(folder) as url, redis.Redis.from_url(url) as client:
            output.status(f"Redis:    {url}, version {client.info()['redis_version']}, with the module")
            output.status(f"Database: {database.title}")
            _deploy(functions, url)
            timing = _write_and_wait(client, url, keys)
            _report(engine)
            with engine.connect() as connection:
                count, found = data.differences(client, connection)
        engine.dispose()
    if found:
        _print_differences(found)
    _print_end(timing, count, functions, database)


def _make_folder(folder: str) -> None:
    """Make an empty folder; what an earlier demo left in it goes, anything else stays and is an error."""
    mark = os.path.join(folder, MARK)
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(mark):
        raise CommandError(
            f"{folder} holds files that are not a demo's.", "give another folder: --dir FOLDER."
        )
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.makedirs(os.path.join(folder, "redis"))
        with open(mark, "w", encoding="utf-8"):
            pass
    except OSError as error:
        raise CommandError(
            f"{folder} can't be created: {error.strerror}.", "give another: --dir FOLDER."
        ) from error


def _create_table(engine: sqlalchemy.Engine, database: Database) -> None:
    try:
        data.TABLE.drop(engine, checkfirst=True)
        data.TABLE.create(engine)
    except sqlalchemy.exc.OperationalError as error:
        raise CommandError(
            f"the database ({database.title}) can't be used: {error.orig}", "see that it runs, and its URL."
        ) from error


@contextmanager
def _redis(folder: str) -> Iterator[str]:
    """Run a server with the module in ``folder``; give its URL."""
    port = demo_database.free_port()
    log_path = os.path.join(folder, "redis.log")
    command = server.arguments(
        server.find(os.environ.get(server.VARIABLE)), port, os.path.join(folder, "redis"), ()
    )
    with open(log_path, "wb") as log, server.started(command, log) as started:
        url = f"redis://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(url) as client:
            while not _answers(client):
                if started.process.poll() is not None or time.monotonic() > deadline:
                    raise CommandError("redis-server did not start.", f"read {os.path.relpath(log_path)}.")
                time.sleep(0.02)
        yield url


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def _deploy(functions: str, url: str) -> None:
    """Run the real command, as one would by hand."""
    output.status(f"\n$ gearsync deploy {os.path.relpath(functions)} --redis {url}")
    done = subprocess.run([sys.executable, "-m", "deploy", "deploy", functions, "--redis", url], check=False)
    if done.returncode != 0:
        raise CommandError("the deploy failed; its reason is above.")


def _write_and_wait(client: redis.Redis, url: str, keys: int) -> Timing:
    output.status("")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.progress_console()) as progress:
        task = progress.add_task("Writing hashes to Redis", total=keys)
        started = time.monotonic()
        writes = data.write(client, keys, lambda count: progress.advance(task, count))
        written = time.monotonic()
    with shards.connect(url) as found:
        if not barrier.wait(found, WAIT_SECONDS):
            left = barrier.leftovers(status.fetch(found))
            raise CommandError("\n  ".join([f"not all is in SQL after {WAIT_SECONDS:g} s.", *left]))
        settled = time.monotonic()
        letters = sum(status.dead_letters(each) for one in status.fetch(found) for each in one["deployments"])
    if letters:
        raise CommandError(f"the database refused {letters:,} changes; they are dead letters.")
    return Timing(writes, written - started, settled - written)


def _report(engine: sqlalchemy.Engine) -> None:
    output.line()
    for each in data.REPORT.splitlines():
        output.line(f" {each}")
    output.line()
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(data.REPORT))
        output.table(list(result.keys()), [_readable(row) for row in result])


def _readable(row: sqlalchemy.Row[Any]) -> list[object]:
    # A sum comes as int, Decimal or float, as the database likes.
    return [row.country, row.orders, int(row.items), f"{float(row.revenue):,.2f}"]


def _print_differences(found: list[str]) -> None:
    shown = found[:SHOWN_DIFFERENCES]
    if len(found) > len(shown):
        shown.append(f"and {len(found) - len(shown):,} more.")
    raise CommandError("\n  ".join([f"Redis and SQL differ in {len(found):,} places:", *shown]))


def _print_end(timing: Timing, count: int, functions: str, database: Database) -> None:
    total = timing.writing + timing.settling
    output.line()
    output.heading(f"Redis and SQL agree: {count:,} hashes, {count:,} rows, every value compared.")
    output.line()
    output.table(
        ["", "", ""],
        [
            [
                "writes to Redis",
                f"{timing.writes:,}",
                f"{timing.writes / timing.writing:,.0f}/s, one client, {data.PIPELINE} at a time",
            ],
            [
                "changes in SQL",
                f"{timing.writes:,}",
                f"{timing.writes / total:,.0f}/s, from the first write on",
            ],
            ["SQL was behind by", f"{timing.settling * 1000:,.0f} ms", "after the last write"],
            ["in all", f"{total:,.1f} s", ""],
        ],
    )
    output.line()
    output.heading("Try next")
    for step in _next_steps(os.path.relpath(os.path.dirname(functions)), database):
        output.line(f"  {step}")


def _next_steps(folder: str, database: Database) -> list[str]:
    own = os.path.relpath(sys.argv[0]) if os.path.basename(sys.argv[0]) == "gearsync" else "gearsync"
    gearsync = "gearsync" if shutil.which("gearsync") else own
    steps = [f"cat {folder}/functions.py  # all that was deployed"]
    if database.url.get_backend_name() != "sqlite":
        return [*steps, f"{gearsync} demo --help", f"{gearsync} --help"]
    path = os.path.relpath(str(database.url.database))
    return [
        *steps,
        f"export {VARIABLE}={database.url}",
        f"{gearsync} server --dir {folder}/redis &  # the same Redis again",
        "redis-cli HSET order:1 customer Ada country NL items 2 amount 9.50",
        f"{gearsync} wait",
        f"sqlite3 {path} 'SELECT * FROM gearsync_demo_orders LIMIT 1'",  # noqa: S608 (shown, not run)
        f"{gearsync} status",
    ]
