"""Transactions that stay whole: a reader in SQL never sees a part of one, whatever is killed meanwhile.

Accounts whose sum never changes: each transaction takes from some what it gives to others, so that any part
of one would show. All accounts are made in one script, so that none or all of them are there.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.chaos.world import URL_VARIABLE, World, running, until
from tests.form import SOAK
from tests.servers import run_sql

ACCOUNTS, EACH = 40, 1000
TRANSFERS = 20_000 if SOAK else 300
KILLS = 12 if SOAK else 2
FUNCTIONS = f"""
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(transactions="whole", batch=25, interval_ms=1)
bank = Target("env:{URL_VARIABLE}", name="bank")
WriteBehind(keys="account:{{id}}", table="accounts", columns=["balance"], target=bank)
WriteBehind(keys="saving:{{id}}", table="savings", columns=["balance"], target=bank)
"""
OPEN = "for i = 1, ARGV[1] do redis.call('HSET', 'account:' .. i, 'balance', ARGV[2]) "
OPEN += "redis.call('HSET', 'saving:' .. i, 'balance', ARGV[2]) end"
MOVE = (
    "redis.call('HINCRBY', KEYS[1], 'balance', -ARGV[1]) redis.call('HINCRBY', KEYS[2], 'balance', ARGV[1])"
)
ALL = "SELECT balance FROM accounts UNION ALL SELECT balance FROM savings"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800 if SOAK else 240)]


class Bank(World):
    """Clients move money by scripts and transactions, and a reader adds it up in SQL."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(url, directory, seed=6)
        self.functions = FUNCTIONS
        self.sums: set[tuple[int, int]] = set()
        self.looks = 0
        self.over = threading.Event()
        for table in ("accounts", "savings"):
            run_sql(url, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, balance BIGINT)")

    def _commands(self, dice: random.Random) -> list[tuple[Any, ...]]:
        kinds = [
            f"{dice.choice(('account', 'saving'))}:{number}" for number in _some(dice, dice.randint(2, 6))
        ]
        amount = dice.randint(1, 50)
        if len(kinds) % 2:
            return [("EVAL", MOVE, 2, *kinds[:2], amount)]
        moved = [-amount, amount] * (len(kinds) // 2)
        return [("HINCRBY", key, "balance", by) for key, by in zip(kinds, moved)]

    def read(self) -> None:
        """Look at the sum until it is over."""
        try:
            while not self.over.is_set():
                [(total, count)] = run_sql(self.url, f"SELECT SUM(balance), COUNT(*) FROM ({ALL}) everything")
                self.sums.add((int(total or 0), int(count)))
                self.looks += 1
        except BaseException as error:
            self.errors.append(error)

    def settled(self) -> dict[str, int]:
        """What Redis has, once SQL has it too."""
        self.settle()
        with self.server.client(decode_responses=True) as client:
            keys = [*client.scan_iter("account:*"), *client.scan_iter("saving:*")]
            return {key: int(client.hget(key, "balance") or 0) for key in keys}


def _some(dice: random.Random, count: int) -> list[int]:
    return dice.sample(range(1, ACCOUNTS + 1), count)


def _in_sql(url: str) -> dict[str, int]:
    return {
        f"{kind}:{number}": balance
        for kind in ("account", "saving")
        for number, balance in run_sql(url, f"SELECT id, balance FROM {kind}s")
    }


@pytest.mark.one_database
def test_a_reader_never_sees_a_part(database_url: str, tmp_path: Path) -> None:
    """Sums stay what they were, and in the end SQL has what Redis has."""
    with running(Bank(database_url, tmp_path)) as bank:
        reader = threading.Thread(target=bank.read)
        reader.start()
        with bank.server.client() as client:
            client.eval(OPEN, 0, ACCOUNTS, EACH)
        writers = bank.write(TRANSFERS)
        kills: list[Callable[[], object]] = [lambda: _kill_worker(bank), bank.restart_server]
        for number in range(KILLS):
            time.sleep(bank.random.uniform(0.2, 0.8))
            kills[number % 2]()
        for thread in writers:
            thread.join()
        try:
            assert bank.settled() == _in_sql(database_url)
        finally:
            bank.over.set()
            reader.join()
        assert not bank.errors, bank.errors
        assert bank.sums <= {(0, 0), (2 * ACCOUNTS * EACH, 2 * ACCOUNTS)}
        assert bank.looks > KILLS
        assert bank.status()["targets"][0]["dead_letters"] == 0


def _kill_worker(bank: Bank) -> None:
    until(lambda: bank.worker_pid() > 0, what="the worker")
    with contextlib.suppress(redis.ConnectionError, ProcessLookupError):
        os.kill(bank.worker_pid(), signal.SIGKILL)
