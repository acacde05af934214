"""What must hold when a storm is over and all is healed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

from click.testing import CliRunner

from deploy.cli import group
from gears.worker import claims
from tests.servers import run_sql
from tests.storm import schema
from tests.storm.model import LOST, OK
from tests.storm.topologies import Topology
from tests.storm.workload import BEHIND, THROUGH, Client, Clients

#: Prefix of keys, table, number of the Redis database.
PLACES = ((BEHIND, schema.BEHIND, 0), (THROUGH, schema.THROUGH, 0), ("page", schema.FLUSHED, 1))
_SHOWN = 5
Hashes = dict[str, dict[str, str]]
_COLUMNS = ", ".join(schema.FIELDS)


class Findings(list[str]):
    """What does not hold; empty: all does."""

    def expect(self, true: bool, sentence: str) -> None:
        """Keep the sentence unless it is true that nothing is wrong."""
        if not true:
            self.append(sentence)

    def differing(self, what: str, found: dict[Any, Any]) -> None:
        """Keep some of what differs, if any does."""
        if found:
            some = dict(list(found.items())[:_SHOWN])
            self.append(f"{what}: {len(found)}, as {some}")


def hashes(topology: Topology, prefix: str, db: int) -> Hashes:
    """All hashes of a prefix on all primaries."""
    found: Hashes = {}
    for node in topology.primaries():
        with node.client(db=db, decode_responses=True) as client:
            for key in client.scan_iter(f"{prefix}:*", count=1000):
                fields = client.hgetall(key)
                if fields:
                    found[key] = fields
    return found


def table(url: str, prefix: str, name: str) -> Hashes:
    """All rows of a table, as the hashes that they are of."""
    rows = run_sql(url, f"SELECT tag, id, {_COLUMNS} FROM {name}")
    return {
        f"{prefix}:{{{row[0]}}}:{row[1]}": {
            field: str(value) for field, value in zip(schema.FIELDS, row[2:]) if value is not None
        }
        for row in rows
    }


def differences(topology: Topology, url: str, poison: set[str], without: str = "") -> dict[str, Any]:
    """Key → (hash, row) where SQL has not what Redis has; poisoned keys have no row. ``without`` is a field
    that is not looked at.
    """
    found: dict[str, Any] = {}
    for prefix, name, db in PLACES:
        if db and topology.kind == "cluster":
            continue
        in_redis, in_sql = hashes(topology, prefix, db), table(url, prefix, name)
        in_redis = {key: fields for key, fields in in_redis.items() if key not in poison}
        for place in (in_redis, in_sql):
            for fields in place.values():
                fields.pop(without, None)
        for key in {*in_redis, *in_sql}:
            if in_redis.get(key) != in_sql.get(key):
                found[key] = (in_redis.get(key), in_sql.get(key))
    return found


def ended_since(topology: Topology, url: str, keys: Collection[str]) -> set[str]:
    """Those of which there is neither a hash nor a row by now: their time was over between two looks."""
    ended = set(keys)
    for prefix, name, db in PLACES if keys else ():
        if not db or topology.kind != "cluster":
            ended -= {*hashes(topology, prefix, db), *table(url, prefix, name)}
    return ended


def poisoned(clients: Clients, outcomes: tuple[str, ...] = (OK, LOST)) -> set[str]:
    """Keys that were written such that the database must refuse them."""
    found = [client.model.poison for client in clients.of(BEHIND)]
    return {key for each in found for key, outcome in each.items() if outcome in outcomes}


def command(*words: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run the command line in this process; return what it printed."""
    done = CliRunner().invoke(group, list(words))
    assert done.exit_code in codes and not _is_bug(done.exception), (
        f"{words}: {done.output}{done.exception!r}"
    )
    return done.output


def _is_bug(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, SystemExit)


def letters(url: str) -> list[dict[str, Any]]:
    """All dead letters."""
    found: list[dict[str, Any]] = json.loads(command("deadletters", "list", "--json", "--redis", url))
    return found


def check_letters(findings: Findings, topology: Topology, clients: Clients, repaired: bool) -> None:
    """Those that were made to fail, and no others; once, unless a repair has tried them again.

    A letter that stays behind a repair, of a key that is gone, is for an operator to drop: its row may be
    meant to stay.
    """
    found = Counter(str(each["key"]) for each in letters(topology.url))
    if repaired:
        there = hashes(topology, BEHIND, 0).keys() | hashes(topology, THROUGH, 0).keys()
        found = Counter({key: at for key, at in found.items() if key in there})
    surely = poisoned(clients, (OK,)) if not topology.lossy else set()
    findings.differing("poisoned without a dead letter", dict.fromkeys(surely - set(found)))
    findings.differing(
        "dead letters that were not made", {key: found[key] for key in set(found) - poisoned(clients)}
    )
    if not repaired:
        findings.differing("more than one dead letter", {key: at for key, at in found.items() if at > 1})


def check_answers(findings: Findings, topology: Topology, clients: Clients) -> None:
    """Each client's keys are as its answers say, and the counters counted what was answered."""
    for prefix in (BEHIND, THROUGH):
        found = hashes(topology, prefix, 0)
        counted: dict[str, Counter[str]] = {}
        for client in clients.of(prefix):
            _check_keys(findings, client, found, topology.lossy)
            findings.expect(not client.never, f"acknowledged what is refused: {client.never[:_SHOWN]}")
            for key, counts in client.model.counters.items():
                counted.setdefault(key, Counter()).update(counts)
        for key, counts in counted.items():
            value = int(found.get(key, {}).get("age", 0))
            least = 0 if prefix == BEHIND and topology.lossy else counts[OK]
            right = least <= value <= counts[OK] + counts[LOST]
            findings.expect(right, f"the counter {key} is {value} after {dict(counts)}")


def _check_keys(findings: Findings, client: Client, found: Hashes, lossy: bool) -> None:
    wrong = {}
    for key, possible in client.model.expected().items():
        state = tuple(sorted(found.get(key, {}).items()))
        if state in possible:
            continue
        if lossy and client.prefix == BEHIND:
            # Redis may have gone back to any earlier state.
            version = found.get(key, {}).get("version")
            if version is None or version in client.model.versions[key]:
                continue
        wrong[key] = (state, possible)
    findings.differing(f"not as {client.prefix} writes were answered (Redis, possible)", wrong)


def check_history(findings: Findings, topology: Topology, url: str, clients: Clients, until: int) -> None:
    """Each own key's row passed through versions that only grow, in no state twice.

    What comes behind the row ``until`` is the repair's. Where Redis itself has gone back to a state from
    which a life of the same epoch had begun already, so do rows: what waits in that state is applied.
    """
    if any(claims.DOUBLED in node.log_text() for node in topology.nodes):
        return
    own = {key for client in clients.of(BEHIND) for key in client.model.versions}
    last: dict[str, int] = {}
    seen: set[tuple[Any, ...]] = set()
    twice, back = {}, {}
    statement = (
        "SELECT tag, id, version, note, age FROM history "
        f"WHERE place = '{schema.BEHIND}' AND seq <= {until} ORDER BY seq"
    )
    for tag, number, version, *more in run_sql(url, statement):
        key = f"{BEHIND}:{{{tag}}}:{number}"
        if key not in own:
            continue
        if (key, version, *more) in seen:
            twice[key] = (version, *more)
        if version < last.get(key, 0):
            back[key] = (version, last[key])
        seen.add((key, version, *more))
        last[key] = version
    findings.differing("applied twice", twice)
    findings.differing("went back (version, after version)", back)


def check_answered(findings: Findings, topology: Topology, url: str, clients: Clients, but: set[str]) -> None:
    """Where Redis has what was answered last, and so has lost nothing since, SQL has it too.

    ``extra`` is not looked at: its column may have been another one for a while.
    """
    differing = {}
    for prefix, name in ((BEHIND, schema.BEHIND), (THROUGH, schema.THROUGH)):
        found, rows = hashes(topology, prefix, 0), table(url, prefix, name)
        for client in clients.of(prefix):
            for key, state in client.model.states.items():
                fields = found.get(key, {})
                if key in but or tuple(sorted(fields.items())) != state:
                    continue
                if not state and prefix == BEHIND and topology.lossy:
                    # Perhaps it never was there, for the server of now.
                    continue
                row = rows.get(key, {})
                if {**fields, "extra": ""} != {**row, "extra": ""}:
                    differing[key] = (fields, row)
    findings.differing("answered, in Redis, and not so in SQL (hash, row)", differing)


def check_applied(findings: Findings, topology: Topology, url: str, clients: Clients, but: set[str]) -> None:
    """No row is behind its hash. A row may be ahead, or gone, for writes that a promotion has lost."""
    own = {key for client in clients.of(BEHIND) for key in client.model.versions} - but
    rows = table(url, BEHIND, schema.BEHIND)
    behind = {}
    for key, fields in hashes(topology, BEHIND, 0).items():
        row = rows.get(key)
        if key in own and row is not None and int(row["version"]) < int(fields["version"]):
            behind[key] = (fields, row)
    findings.differing("SQL is behind Redis (hash, row)", behind)


def latest(url: str) -> int:
    """The last row of the history."""
    return int(run_sql(url, "SELECT COALESCE(MAX(seq), 0) FROM history")[0][0])


def settle(topology: Topology, seconds: float = 120) -> None:
    """Wait until all is in SQL or a dead letter, and nobody waits any more."""
    try:
        command("wait", "--redis", topology.url, "--timeout", str(int(seconds)))
    except AssertionError as error:
        logs = [node.log_text()[-3000:] for node in topology.nodes]
        raise AssertionError("\n".join(["not settled:", str(error), *logs])) from error


def repair(topology: Topology, files: list[str]) -> None:
    """What an operator does after a table was another one, or a promotion has lost something."""
    # 1: the letters of keys that are gone stay.
    command("deadletters", "retry", "--all", "--redis", topology.url, codes=(0, 1))
    settle(topology)
    for file in files:
        # Poisoned keys go on to differ.
        print(command("verify", file, "--repair", "--delete-extra", "--redis", topology.url, codes=(0, 1)))
    settle(topology)
