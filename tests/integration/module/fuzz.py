"""A fuzzer of the module's commands: words of their grammar, cut, swapped, doubled and filled with junk.

They come alone, as transactions and as scripts; some clients leave while they wait.
``python -m tests.integration.module.fuzz SECONDS [SEED]`` fuzzes a server of its own for as long as that.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import redis

from tests.integration.module.driving import (
    Function,
    connect,
    deploy_arguments,
    lane_keys,
    module_server,
    wait_for,
)

#: Commands between two looks at the whole server.
ROUND = 200

NAMES = ["people", "orders", "a", "n" * 64, "n" * 65, "", "no body", "p\0x", "ü", "discard", "check"]
NUMBERS = [0, 1, 2, 7, 64, 65, -1, 2**31, 2**62, 2**63, 2**64, "1e3", "0x1", " 1", "", "nan", "9" * 40]
TEMPLATES = [
    "person:{id}",
    "{a}:{b}",
    "{any*}",
    "{{x}}{y}",
    "{",
    "}",
    "",
    "{a}{b}",
    "x{a*}y",
    "{a}:{a}",
    "\0{z}",
]
IDS = [
    "0-0",
    "1-1",
    "0-1",
    "18446744073709551615-18446744073709551615",
    "1",
    "-",
    "+",
    "*",
    "1-1-1",
    "99999999999999999999-0",
]
WORDS = [
    "CHECK",
    "LANES",
    "BACKLOG",
    "REFUSE",
    "GROW",
    "WORKER",
    "EXTERNAL",
    "SUPERVISED",
    "PAYLOAD",
    "TARGETS",
    "FUNCTIONS",
]
WORDS += ["KEEP", "DELETE", "DISCARD", "DEPLOYMENT", "KEY"]
#: Short ones, and those that no server can wait for.
TIMEOUTS = [1, 1, 1, -1, "x", 2**40 + 1, 2**62, 2**63 - 1, 2**64]
#: Runs the commands in its arguments, each after the number of its words; errors are passed over.
SCRIPT = """
local at = 1
while at <= #ARGV do
    local words = tonumber(ARGV[at])
    redis.pcall(unpack(ARGV, at + 1, at + words))
    at = at + words + 1
end
"""


@dataclass
class Report:
    """How many commands ran, and how the server took them."""

    commands: int = 0
    accepted: int = 0
    refused: int = 0


def _impatient(words: list[Any]) -> list[Any]:
    """A client that waits for SQL would wait as long as a number of junk says."""
    return [
        1 if at and words[at - 1] == "THROUGH" and str(word).isdigit() else word
        for at, word in enumerate(words)
    ]


class Fuzzer:
    """Makes commands; the same seed makes the same ones as long as the server answers the same."""

    def __init__(self, client: redis.Redis, seed: int) -> None:
        self._client = client
        self._dice = random.Random(seed)

    def command(self) -> list[Any]:
        """Return the next command and its arguments."""
        makers = [
            self._deploy,
            self._deploy,
            self._of_name,
            self._acknowledge,
            self._wait,
            self._write,
            self._intents,
            self._other,
        ]
        words = self._dice.choice(makers)()
        # A timeout of junk could be a very long one.
        first = 2 if words[0] == "GEARSYNC.WAIT" else 1
        if self._dice.random() < 0.5:
            words[first:] = self._spoil(words[first:])
        return _impatient(words)

    def unit(self) -> list[list[Any]]:
        """Return what comes next: one command, or a transaction of some, or a script that runs them."""
        commands = [self.command() for _ in range(self._dice.choice([1] * 12 + [2, 3, 6]))]
        if len(commands) == 1:
            return commands
        if self._dice.random() < 0.5:
            return [["MULTI"], *commands, ["EXEC"]]
        words = [word for command in commands for word in (len(command), *command)]
        return [["EVAL", SCRIPT, 0, *words]]

    def leave(self) -> None:
        """Have a client wait and go away without reading its answer."""
        # Not of the pool: it counts what it makes.
        pool = self._client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.connect()
        connection.send_command("GEARSYNC.WAIT", self._dice.choice([0, 0, 50, *TIMEOUTS]))
        if self._dice.random() < 0.5:
            self._client.ping()
        connection.disconnect()

    def _junk(self) -> Any:
        kind = self._dice.randrange(6)
        if kind == 0:
            return self._dice.randbytes(self._dice.randrange(40))
        if kind == 1:
            return b"x" * self._dice.choice([255, 256, 1 << 16])
        junk: list[list[Any]] = [NAMES, NUMBERS, TEMPLATES, WORDS]
        return self._dice.choice(junk[kind - 2])

    def _spoil(self, words: list[Any]) -> list[Any]:
        for _ in range(self._dice.choice([1, 1, 2, 5])):
            at = self._dice.randrange(len(words) + 1)
            kind = self._dice.randrange(5)
            if kind == 0:
                words = words[:at]
            elif kind == 1:
                words = [*words[:at], self._junk(), *words[at:]]
            elif kind == 2:
                words = [*words[:at], *words[at + 1 :]]
            elif kind == 3 and words:
                words[at % len(words)] = self._junk()
            else:
                words = [*words, *words[:at]]
        return words

    def _deploy(self) -> list[Any]:
        dice = self._dice
        targets = [f"t{number}" for number in range(1, dice.choice([1, 1, 2, 5]) + 1)]
        functions = [
            Function(
                dice.choice(TEMPLATES[:4]),
                dice.choice([None, ["first"], [], [f"f{number}" for number in range(50)]]),
                dice.choice(targets),
                dice.choice([0, 0, 1, 15]),
                dice.choice(["KEEP", "DELETE"]),
                timeout_ms=dice.choice([0, 0, 1, 20]),
            )
            for _ in range(dice.choice([1, 1, 2, 9]))
        ]
        words = deploy_arguments(
            dice.choice(NAMES[:4]),
            dice.randrange(1, 99),
            functions,
            targets,
            dice.choice([1, 1, 3, 64]),
            (dice.choice([0, 0, 3, 1000]), dice.choice([0, 0, 500])),
            dice.choice(["REFUSE", "GROW"]),
            payload=json.dumps({"x": dice.choice(NAMES)}),
            check=dice.random() < 0.2,
        )
        return ["GEARSYNC.DEPLOY", *words]

    def _of_name(self) -> list[Any]:
        command = self._dice.choice(["UNDEPLOY", "LANES", "UNDEPLOY"])
        words = [f"GEARSYNC.{command}", self._dice.choice(NAMES)]
        return [*words, "DISCARD"] if command == "UNDEPLOY" and self._dice.random() < 0.7 else words

    def _acknowledge(self) -> list[Any]:
        known = lane_keys(self._client) or ["gearsync:{0}:lane:x"]
        return ["GEARSYNC.ACK", self._dice.choice(known), self._dice.choice(IDS)]

    def _intents(self) -> list[Any]:
        """What a worker says of write-through; a command that is done again may be any."""
        dice = self._dice
        lane = dice.choice(lane_keys(self._client) or ["gearsync:{0}:lane:x"])
        known, worker = dice.choice(IDS), dice.choice(["one", "two"])
        command = dice.choice(
            ["0 *2\r\n$3\r\nDEL\r\n$8\r\nperson:1\r\n", "0 *9\r\n$-1\r\n", "9", "", "0 *2\r\n$99\r\nx"]
        )
        return list(
            dice.choice(
                [
                    ["GEARSYNC.TAKE", lane, "18446744073709551615-18446744073709551615", worker],
                    ["GEARSYNC.SETTLE", lane, known, worker],
                    ["GEARSYNC.SETTLE", lane, "18446744073709551615-1", worker, known, "no"],
                    ["GEARSYNC.DENY", lane, "no"],
                    [
                        "GEARSYNC.REDO",
                        lane,
                        dice.choice([0, 1, -1, "x"]),
                        known,
                        worker,
                        known,
                        command,
                        "no",
                    ],
                    ["GEARSYNC.APPLIED", lane],
                    ["GEARSYNC.THROUGH", "HINCRBY", "person:1", "first", 1],
                    ["GEARSYNC.THROUGH.auth", dice.choice(["DEL", "HDEL", "PING", "x"]), "person:1", "first"],
                ]
            )
        )

    def _wait(self) -> list[Any]:
        words: list[Any] = ["GEARSYNC.WAIT", self._dice.choice(TIMEOUTS)]
        return (
            words
            if self._dice.random() < 0.5
            else [*words, self._dice.choice(WORDS), self._dice.choice(NAMES)]
        )

    def _write(self) -> list[Any]:
        dice = self._dice
        key: Any = dice.choice(
            ["person:1", "person:2", "a:b", "x", b"\0\xff", "", "person:", "gearsync:{0}:registry"]
        )
        if dice.random() < 0.2:
            key = dice.choice([*lane_keys(self._client), "person:1"])
        value = dice.randbytes(dice.choice([0, 5, 5000]))
        lane = dice.choice(lane_keys(self._client) or ["x"])
        commands = [
            ["HSET", key, "first", value],
            ["HDEL", key, "first"],
            ["DEL", key],
            ["RENAME", key, "person:2"],
        ]
        commands += [
            ["COPY", key, "person:1"],
            ["SET", key, value],
            ["EXPIRE", key, 0],
            ["FLUSHALL"],
            ["XADD", key, "*", "a", "b"],
            ["RPUSH", key, value],
            ["LPOP", key],
            ["SORT", key, "STORE", "person:1"],
            ["XTRIM", lane, "MAXLEN", dice.choice([0, 1, 5])],
            ["XGROUP", "CREATE", lane, "g", "$"],
        ]
        return list(dice.choice(commands))

    def _other(self) -> list[Any]:
        dice = self._dice
        report = dice.choice(["{}", '{"a": 1}', "{", "", "[]", "{x}"])
        return list(
            dice.choice(
                [
                    ["GEARSYNC.HEARTBEAT", dice.choice(NAMES), dice.choice(NAMES), report],
                    ["GEARSYNC.RECAPTURE", "person:1", dice.choice(NAMES)],
                    ["GEARSYNC.BACKFILL", "person:1", dice.choice(NAMES)],
                    ["GEARSYNC.EPOCH"],
                    ["GEARSYNC.EPOCH", dice.choice([0, -1, "x", 2**60 + 1, 2**63 - 1, 2**64])],
                    ["GEARSYNC.STATUS"],
                    ["GEARSYNC.DEPLOYMENTS"],
                    ["GEARSYNC.REFUSE", dice.choice(NAMES)],
                ]
            )
        )


def _deployments(client: redis.Redis) -> dict[tuple[str, int], str]:
    document = json.loads(client.execute_command("GEARSYNC.STATUS"))
    return {(each["name"], each["version"]): each["state"] for each in document["deployments"]}


def _is_written(client: redis.Redis, names: list[str]) -> bool:
    """Whether the registry has all the deployments: what clients did to it is mended in a moment."""
    if client.type("gearsync:{0}:registry") != b"hash":
        return not names
    fields: list[Any] = client.hkeys("gearsync:{0}:registry")
    found = {field.decode("latin-1").partition(":")[2] for field in fields}
    return set(names) <= found


def _check(client: redis.Redis) -> None:
    """The server lives, its status can be read, and what it holds survives a reload."""
    # Asked anew each time: one that drains ends when it is empty, and leaves the registry as well.
    wait_for(
        lambda: _is_written(client, [name for name, _ in _deployments(client)]), "the registry is written"
    )
    before = _deployments(client)
    client.execute_command("DEBUG", "RELOAD")
    after = _deployments(client)
    # One that drains may end in between.
    left = {key for key, state in before.items() if state == "draining"} - set(after)
    assert after == {key: state for key, state in before.items() if key not in left}


def _send(client: redis.Redis, words: list[Any], report: Report) -> None:
    report.commands += 1
    try:
        client.execute_command(*words)
        report.accepted += 1
    except redis.ResponseError:
        report.refused += 1


def run(client: redis.Redis, seed: int, seconds: float = math.inf, cases: float = math.inf) -> Report:
    """Fuzz for so many seconds or commands; AssertionError or a lost connection when the server took harm."""
    fuzzer, report = Fuzzer(client, seed), Report()
    deadline = time.monotonic() + seconds
    with client.client() as one:
        while time.monotonic() < deadline and report.commands < cases:
            for _ in range(ROUND):
                for words in fuzzer.unit():
                    _send(one, words, report)
            fuzzer.leave()
            _check(client)
    return report


if __name__ == "__main__":
    with module_server() as own_server, connect(own_server) as own_client:
        seed_given = int((sys.argv[2:] or ["1"])[0])
        print(run(own_client, seed_given, seconds=float(sys.argv[1])))
