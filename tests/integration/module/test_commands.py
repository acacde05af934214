"""The module's commands take what the design says; all else gets one clear error and changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
import redis

from tests.integration.module import fuzz
from tests.integration.module.driving import (
    Function,
    changes,
    connect,
    deploy,
    deploy_arguments,
    lanes,
    module_server,
    server_version,
    status,
)

GOOD = deploy_arguments()
LONG = "n" * 64
#: Seconds of fuzzing; ten minutes before a release.
FUZZ_SECONDS = float(os.environ.get("GEARSYNC_FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("GEARSYNC_SEED", "20"))


def with_argument(at: int, value: Any) -> list[Any]:
    """GOOD with the argument at ``at`` replaced."""
    return [*GOOD[:at], value, *GOOD[at + 1 :]]


def after(word: str, value: Any) -> list[Any]:
    """GOOD with the argument after ``word`` replaced."""
    return with_argument(GOOD.index(word) + 1, value)


#: Where the last function says how many fields it has.
FIELD_COUNT = len(GOOD) - 4

BAD_DEPLOYMENTS: dict[str, tuple[list[Any], str]] = {
    "nothing": ([], "wrong number of arguments"),
    "a name alone": (["people"], "wrong number of arguments"),
    "an empty name": (with_argument(0, ""), "name"),
    "a name of 65": (with_argument(0, LONG + "n"), "name"),
    "a name with a blank": (with_argument(0, "my people"), "name"),
    "a name with NUL": (with_argument(0, b"peo\0ple"), "name"),
    "a name in UTF-8": (with_argument(0, "pers\u00f6nen"), "name"),
    "version 0": (with_argument(1, 0), "version"),
    "a negative version": (with_argument(1, -1), "version"),
    "a version that is none": (with_argument(1, "new"), "version"),
    "a version beyond 64 bits": (with_argument(1, "9" * 30), "version"),
    "no lanes": (after("LANES", 0), "lanes"),
    "too many lanes": (after("LANES", 100_000), "lanes"),
    "a bound below 0": (after("BACKLOG", -1), "(?i)backlog"),
    "an unknown policy": (after("BACKLOG", "x"), "(?i)backlog"),
    "neither refuse nor grow": (with_argument(GOOD.index("REFUSE"), "PERHAPS"), "REFUSE or GROW"),
    "an unknown worker": (after("WORKER", "REMOTE"), "SUPERVISED or EXTERNAL"),
    "no targets": (after("TARGETS", 0), "(?i)target"),
    "more targets than follow": (after("TARGETS", 9), "(?i)target|argument"),
    "a huge count of targets": (after("TARGETS", 2**62), "(?i)target"),
    "an empty target": (with_argument(GOOD.index("TARGETS") + 2, ""), "(?i)target"),
    "too many lanes of all targets": (
        deploy_arguments(targets=[f"t{number}" for number in range(1, 18)], lanes=64),
        "lanes of all targets together",
    ),
    "no functions": (after("FUNCTIONS", 0), "(?i)function"),
    "more functions than follow": (after("FUNCTIONS", 2), "(?i)function|target|missing"),
    "a huge count of functions": (after("FUNCTIONS", 2**62), "(?i)function"),
    "a function of an unknown target": (deploy_arguments(functions=[Function(target="t9")]), "(?i)target"),
    "a database below 0": (deploy_arguments(functions=[Function(db=-1)]), "(?i)database"),
    "an empty template": (deploy_arguments(functions=[Function("")]), "(?i)template"),
    "an unknown flush policy": (deploy_arguments(functions=[Function(flush="MAYBE")]), "KEEP or DELETE"),
    "a target named twice": (deploy_arguments(targets=["t1", "t1"]), "named twice"),
    "a database that is not there": (deploy_arguments(functions=[Function(db=16)]), "database 16"),
    "a huge database": (deploy_arguments(functions=[Function(db=2**62)]), "(?i)database"),
    "a template without a name": (deploy_arguments(functions=[Function("person:1")]), "(?i)template"),
    "a template that is not closed": (deploy_arguments(functions=[Function("a:{id")]), "(?i)template"),
    "a binary template": (deploy_arguments(functions=[Function("\0\xff")]), "(?i)template"),
    "rows deleted at a flush in two lanes": (
        deploy_arguments(functions=[Function(flush="DELETE")], lanes=2),
        "one lane",
    ),
    "fewer fields than -1": (with_argument(FIELD_COUNT, -2), "fields"),
    "more fields than follow": (with_argument(FIELD_COUNT, 4), "a field is missing"),
    "fewer fields than follow": (with_argument(FIELD_COUNT, 2), "nothing more is expected"),
    "a huge count of fields": (with_argument(FIELD_COUNT, 2**31), "fields"),
    "the whole hash and fields": (with_argument(FIELD_COUNT, -1), "nothing more is expected"),
    "two functions of which one is cut": (
        [*deploy_arguments(functions=[Function(), Function("pet:{id}")])[:-2]],
        "a field is missing",
    ),
    **{
        f"lanes {value!r}": (after("LANES", value), "lanes must be a whole number")
        for value in (b"1\0", " 1", "1 ", "+1", "0x1", "1.0", "1e0", "", "-", b"\xff")
    },
    "a word too much": ([*GOOD, "more"], "(?i)argument"),
    "lanes in the place of PAYLOAD": (with_argument(GOOD.index("PAYLOAD"), "LANES"), "PAYLOAD"),
}


@pytest.mark.parametrize("case", BAD_DEPLOYMENTS)
@pytest.mark.parametrize("check", [False, True], ids=["deploy", "check"])
def test_a_wrong_deployment_is_refused_with_its_place(client: redis.Redis, case: str, check: bool) -> None:
    arguments, reason = BAD_DEPLOYMENTS[case]
    if check and len(arguments) > 2:
        arguments = [*arguments[:2], "CHECK", *arguments[2:]]
    with pytest.raises(redis.ResponseError, match=reason) as error:
        client.execute_command("GEARSYNC.DEPLOY", *arguments)
    assert len(str(error.value)) < 400 and str(error.value).isprintable()
    assert client.execute_command("GEARSYNC.DEPLOYMENTS") == []
    assert client.keys("*") == []


@pytest.mark.parametrize("length", range(2, len(GOOD)))
def test_a_deployment_that_ends_early_is_refused(client: redis.Redis, length: int) -> None:
    with pytest.raises(redis.ResponseError):
        client.execute_command("GEARSYNC.DEPLOY", *GOOD[:length])
    assert status(client)["deployments"] == []


def test_the_longest_names_work(client: redis.Redis) -> None:
    deploy(client, Function(target=LONG), name=LONG, targets=[LONG], lanes=64)
    client.hset("person:1", "first", "Ada")
    assert [each.key for each in changes(client, LONG, LONG)] == ["person:1"]


def cpu_seconds(client: redis.Redis) -> float:
    """Return what the server itself has computed so far, whoever else has the processors."""
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def test_the_largest_deployment_is_deployed_and_upgraded_in_time(client: redis.Redis) -> None:
    targets = [f"t{number}" for number in range(1, 17)]
    functions = [Function(target=target) for target in targets]
    for version, count in ((1, 64), (2, 64), (3, 63)):
        begin = cpu_seconds(client)
        deploy(client, *functions, version=version, targets=targets, lanes=count)
        assert cpu_seconds(client) - begin < 2
    client.hset("person:1", "first", "Ada")
    assert [len(changes(client, target=target)) for target in targets] == [1] * 16


def test_a_long_template_is_read_in_time(client: redis.Redis) -> None:
    words = deploy_arguments(functions=[Function("x" * (1 << 25) + "{id}")], check=True)
    begin = cpu_seconds(client)
    client.execute_command("GEARSYNC.DEPLOY", *words)
    assert cpu_seconds(client) - begin < 5


def test_check_changes_nothing(client: redis.Redis) -> None:
    assert client.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(check=True)) == b"OK"
    assert client.execute_command("GEARSYNC.DEPLOYMENTS") == []
    deploy(client)
    assert (
        client.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(version=2, lanes=8, check=True)) == b"OK"
    )
    assert status(client)["deployments"][0]["version"] == 1
    assert len(lanes(client)) == 1


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("UNDEPLOY", [], "wrong number"),
        ("UNDEPLOY", ["nobody"], "no deployment of that name"),
        ("UNDEPLOY", [""], "no deployment of that name"),
        ("UNDEPLOY", [LONG + "n"], "no deployment of that name"),
        ("UNDEPLOY", [b"people\0"], "no deployment of that name"),
        ("UNDEPLOY", ["PEOPLE"], "no deployment of that name"),
        ("UNDEPLOY", ["people", "DISCARD\0"], "use GEARSYNC.UNDEPLOY"),
        ("UNDEPLOY", ["people", "NOW"], "use GEARSYNC.UNDEPLOY"),
        ("UNDEPLOY", ["people", "DISCARD", "x"], "wrong number"),
        ("DEPLOYMENTS", ["x"], "wrong number"),
        ("LANES", [], "wrong number"),
        ("LANES", ["nobody"], "no deployment of that name"),
        ("LANES", [b"\0\xff"], "no deployment of that name"),
        ("LANES", ["people", "x"], "wrong number"),
        ("ACK", [], "wrong number"),
        ("ACK", ["LANE", "1-1", "x"], "wrong number"),
        ("ACK", ["", "1-1"], "no lane of that name"),
        ("ACK", ["LANE", ""], "the id must be"),
        ("ACK", ["LANE", "*"], "the id must be"),
        ("ACK", ["LANE", "1-18446744073709551616"], "the id must be"),
        ("ACK", ["LANE", "1-1-1"], "the id must be"),
        ("ACK", ["LANE", " 1-1"], "the id must be"),
        ("ACK", ["gearsync:{0}:lane:x", "1-1"], "no lane of that name"),
        ("ACK", ["person:1", "1-1"], "no lane of that name"),
        ("ACK", ["LANE"], "wrong number"),
        ("ACK", ["LANE", "1-1", "1", "life", "x"], "wrong number"),
        ("ACK", ["LANE", "1-1", "x", "life"], "the epoch must be"),
        ("ACK", ["LANE", "1-1", "1", "another"], "EPOCH this server has another"),
        ("ACK", ["LANE", "1"], "the id must be"),
        ("ACK", ["LANE", "1-"], "the id must be"),
        ("ACK", ["LANE", "-1-1"], "the id must be"),
        ("ACK", ["LANE", "99999999999999999999-1"], "the id must be"),
        ("ACK", ["LANE", "1-1\0"], "the id must be"),
        ("RECAPTURE", [], "wrong number"),
        ("BACKFILL", [], "wrong number"),
        ("HEARTBEAT", [], "wrong number"),
        ("HEARTBEAT", ["people", "w"], "wrong number"),
        ("HEARTBEAT", ["people", "w", "{}", "x"], "wrong number"),
        ("HEARTBEAT", ["people", "w", "text"], "must be a JSON object"),
        ("HEARTBEAT", ["people", "w", "{"], "must be a JSON object"),
        ("EPOCH", ["x"], "can only be raised"),
        ("EPOCH", ["0"], "can only be raised"),
        ("EPOCH", ["-5"], "can only be raised"),
        ("EPOCH", [""], "can only be raised"),
        ("EPOCH", ["1e9"], "can only be raised"),
        ("EPOCH", [str(2**60 + 1)], r"up to 2\^60$"),
        ("EPOCH", [str(2**63 - 1)], r"up to 2\^60$"),
        ("EPOCH", [str(2**64)], "can only be raised"),
        ("EPOCH", ["9", "9"], "wrong number"),
        ("STATUS", ["x"], "wrong number"),
        ("REFUSE", [], "wrong number"),
        ("REFUSE", ["a", "b"], "wrong number"),
        ("REFUSE", ["people"], "BACKLOG the change stream of deployment people"),
        ("NOTHING", [], "unknown command"),
    ],
)
def test_wrong_use_changes_nothing(
    client: redis.Redis, command: str, arguments: list[Any], reason: str
) -> None:
    deploy(client)
    client.hset("person:1", "first", "Ada")
    lane = lanes(client)[0]
    before = changes(client), client.execute_command("GEARSYNC.EPOCH"), sorted(client.keys("*"))
    given = [lane if each == "LANE" else each for each in arguments]
    with pytest.raises(redis.ResponseError, match=reason) as error:
        client.execute_command(f"GEARSYNC.{command}", *given)
    assert len(str(error.value)) < 400 and str(error.value).isprintable()
    assert (changes(client), client.execute_command("GEARSYNC.EPOCH"), sorted(client.keys("*"))) == before


REPORTS = [
    "{}",
    ' {"a" : [1, -2.5e+3, true, null, {"b": ""}], "c": "\\u00e9\\n"} ',
    '{"a": ' * 20 + "1" + "}" * 20,
]
NO_REPORTS = [
    "",
    "{",
    "}",
    "{}{}",
    "{x}",
    "{'a': 1}",
    '{"a"}',
    '{"a": }',
    '{"a": 1,}',
    '{"a": 01}',
    '{"a": 1.}',
    "[1]",
]
NO_REPORTS += [
    '{"a": "\n"}',
    '{"a": "\\x"}',
    '{"a": "\\u12g4"}',
    '{"a": nul}',
    '{"a": "\u00e9"}',
    '{"a": "\0"}',
    '{"a": +1}',
]
NO_REPORTS += ['{"a": ' * 100 + "1" + "}" * 100, '{"a": "', '{"a": "\\', '{"a": [1 2]}', "{}\0"]


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_shown_in_the_status(client: redis.Redis, report: str) -> None:
    deploy(client)
    client.execute_command("GEARSYNC.HEARTBEAT", "people", "w", report)
    assert status(client)["deployments"][0]["worker"]["report"] == json.loads(report)


@pytest.mark.parametrize("report", NO_REPORTS)
def test_what_is_no_json_never_comes_into_the_status(client: redis.Redis, report: str) -> None:
    deploy(client)
    with pytest.raises(redis.ResponseError, match="the report must be a JSON object"):
        client.execute_command("GEARSYNC.HEARTBEAT", "people", "w", report)
    assert status(client)["deployments"][0]["worker"]["report"] is None


def test_the_largest_id_empties_the_lane_and_new_changes_still_come(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    assert client.execute_command("GEARSYNC.ACK", lanes(client)[0], f"{2**64 - 1}-{2**64 - 1}") == 0
    client.hset("person:1", "age", 2)
    assert [each.image for each in changes(client)] == [{"age": "2"}]


def test_an_acknowledgment_of_another_epoch_or_life_takes_nothing(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    (lane,) = lanes(client)
    epoch, life = (client.execute_command("GEARSYNC.LANES", "people")[at] for at in (0, 7))
    for term in ((epoch + 1, life), (epoch - 1, life), (epoch, life + b"0"), (epoch, "")):
        with pytest.raises(redis.ResponseError, match="EPOCH this server"):
            client.execute_command("GEARSYNC.ACK", lane, f"{2**63}-0", *term)
    client.execute_command("DEBUG", "RELOAD")
    assert client.execute_command("GEARSYNC.LANES", "people")[7] != life
    assert len(changes(client)) == 1
    epoch, life = (client.execute_command("GEARSYNC.LANES", "people")[at] for at in (0, 7))
    assert client.execute_command("GEARSYNC.ACK", lane, f"{2**63}-0", epoch, life) == 0


@pytest.mark.parametrize(
    ("words", "falls_back"),
    [
        (("DEL", "LANE"), True),
        (("RENAME", "LANE", "elsewhere"), True),
        (("PEXPIREAT", "LANE", 1), True),
        (("SET", "LANE", "no stream"), True),
        (("XSETID", "LANE", f"{2**60}-0"), True),
        (("XTRIM", "LANE", "MAXLEN", 0), False),
        (("XADD", "LANE", "*", "a", "b"), False),
        (("PERSIST", "LANE"), False),
    ],
)
def test_ids_of_a_lane_that_may_fall_back_raise_the_epoch(
    client: redis.Redis, words: Sequence[Any], falls_back: bool
) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    before = status(client)["epoch"]
    client.execute_command(*(lanes(client)[0] if word == "LANE" else word for word in words))
    assert status(client)["epoch"] == before + falls_back


def test_recapture_takes_the_present_state(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
    client.hset("person:1", "age", 2)
    deploy(client)
    assert client.execute_command("GEARSYNC.RECAPTURE", "person:1", "person:2", "elsewhere") == 2
    assert [(each.op, each.key, each.image) for each in changes(client)] == [
        ("r", "person:1", {"age": "2"}),
        ("d", "person:2", {}),
    ]


def test_backfill_takes_hashes_alone(client: redis.Redis) -> None:
    """A key that is gone is no change: why it went was told by its own event, with its own policy."""
    client.hset("person:1", "age", 1)
    client.set("person:3", "no hash")
    deploy(client)
    keys = ("person:1", "person:2", "person:3", "elsewhere")
    assert client.execute_command("GEARSYNC.BACKFILL", *keys) == [1, -1, -1, -1]
    client.hset("elsewhere", "age", 1)
    assert client.execute_command("GEARSYNC.BACKFILL", "elsewhere") == [0]
    assert [(each.op, each.key, each.image) for each in changes(client)] == [("r", "person:1", {"age": "1"})]


def test_the_highest_epoch_can_still_grow(client: redis.Redis) -> None:
    deploy(client)
    highest = 2**60
    assert client.execute_command("GEARSYNC.EPOCH", highest) == highest
    client.hset("person:1", "age", 1)
    client.execute_command("DEBUG", "RELOAD")
    assert client.execute_command("GEARSYNC.EPOCH") == status(client)["epoch"] == highest + 1
    assert [each.epoch for each in changes(client)] == [highest]


def _what_is_deployed(client: redis.Redis) -> object:
    deployments = status(client)["deployments"]
    for each in deployments:
        for lane in each["targets"][0]["lanes"]:
            # It grows with the time.
            del lane["oldest_ms"]
    return deployments, client.hgetall("gearsync:{0}:registry"), changes(client)


def test_a_refused_upgrade_leaves_the_old_version(client: redis.Redis) -> None:
    deploy(client, lanes=2)
    client.hset("person:1", "age", 1)
    before = _what_is_deployed(client)
    bad = [
        deploy_arguments(version=2, functions=[Function(db=99)]),
        deploy_arguments(version=2, functions=[Function("{")]),
        deploy_arguments(version=2, targets=["t2"], functions=[Function(target="t2")]),
        deploy_arguments(version=2)[:-1],
    ]
    for arguments in bad:
        with pytest.raises(redis.ResponseError):
            client.execute_command("GEARSYNC.DEPLOY", *arguments)
        assert _what_is_deployed(client) == before
    client.hset("person:2", "age", 1)
    assert len(changes(client)) == 2


def test_commands_inside_a_transaction_and_a_script(client: redis.Redis) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.hset("person:1", "age", 1)
        pipe.execute_command("GEARSYNC.DEPLOY", *deploy_arguments())
        pipe.hset("person:2", "age", 1)
        pipe.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(version=2, lanes=3))
        pipe.hset("person:3", "age", 1)
        pipe.execute_command("GEARSYNC.STATUS")
        pipe.execute()
    assert "person:3" in {each.key for each in changes(client)}
    with client.pipeline(transaction=True) as pipe:
        pipe.hset("person:3", "age", 1)
        pipe.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
        pipe.hset("person:3", "age", 2)
        pipe.execute()
    assert status(client)["deployments"] == [] and client.keys("gearsync:*:lane:*") == []
    script = "redis.call('HSET', 'person:4', 'age', 1) return redis.call('GEARSYNC.DEPLOY', unpack(ARGV))"
    if server_version() >= (7,):
        # A module is not told whose script it is.
        with pytest.raises(redis.ResponseError, match="not for scripts"):
            client.eval(script, 0, *deploy_arguments())
        deploy(client)
    else:
        assert client.eval(script, 0, *deploy_arguments()) == b"OK"
    client.hset("person:5", "age", 1)
    assert "person:5" in {each.key for each in changes(client)}


#: What COMMAND INFO says: the flags of ours that are not "module", and first key, last key, step.
INFO: dict[str, tuple[set[str], tuple[int, int, int]]] = {
    "DEPLOY": ({"write", "denyoom", "admin", "skip_monitor"}, (0, 0, 0)),
    "UNDEPLOY": ({"write", "admin"}, (0, 0, 0)),
    "PAUSE": ({"write", "admin"}, (0, 0, 0)),
    "RESUME": ({"write", "admin"}, (0, 0, 0)),
    "VERSIONS": ({"readonly"}, (0, 0, 0)),
    "DEPLOYMENTS": ({"readonly"}, (0, 0, 0)),
    "LANES": ({"readonly"}, (0, 0, 0)),
    "IMAGES": ({"readonly"}, (0, 0, 0)),
    "ACK": ({"write", "fast"}, (1, 1, 1)),
    "RECAPTURE": ({"write"}, (1, -1, 1)),
    "BACKFILL": ({"write"}, (1, -1, 1)),
    "PUT": ({"write"}, (0, 0, 0)),
    "MARK": ({"readonly"}, (0, 0, 0)),
    "WAITING": ({"readonly"}, (0, 0, 0)),
    "MISSES": ({"readonly"}, (0, 0, 0)),
    "LOADED": ({"write"}, (0, 0, 0)),
    "UNREAD": ({"readonly"}, (0, 0, 0)),
    "READ.AUTH": ({"readonly", "movablekeys"}, (0, 0, 0)),
    **({"READ": ({"readonly", "no_auth", "movablekeys"}, (0, 0, 0))} if server_version() >= (7, 0) else {}),
    "HOLDS": ({"readonly"}, (0, 0, 0)),
    "HOLD": ({"write"}, (1, 1, 1)),
    "UNHOLD": ({"write"}, (1, 1, 1)),
    "WAIT": ({"readonly"}, (0, 0, 0)),
    "HEARTBEAT": ({"readonly", "fast"}, (0, 0, 0)),
    "EPOCH": ({"write", "admin"}, (0, 0, 0)),
    "STATUS": ({"readonly"}, (0, 0, 0)),
    "TAKE": ({"write", "fast"}, (0, 0, 0)),
    "SETTLE": ({"write"}, (0, 0, 0)),
    "DENY": ({"write"}, (0, 0, 0)),
    "REDO": ({"write"}, (0, 0, 0)),
    "APPLIED": ({"readonly", "fast"}, (0, 0, 0)),
    "THROUGH": ({"write", "no_auth", "movablekeys"}, (0, 0, 0)),
    "THROUGH.AUTH": ({"write", "movablekeys"}, (0, 0, 0)),
    "REFUSE": ({"readonly", "fast"}, (0, 0, 0)),
}
# The server can't tell a module what a user may do, so rights are those of the twin.
if server_version() < (7, 0):
    del INFO["THROUGH"]


@pytest.mark.parametrize("name", INFO)
def test_flags_and_keys(client: redis.Redis, name: str) -> None:
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("COMMAND", lambda reply, **_: reply)
    [found] = reader.execute_command("COMMAND", "INFO", f"GEARSYNC.{name}")
    flags = {flag.decode() for flag in found[2]}
    # Since 7.0 servers name it; movablekeys would mean that they can't tell the keys.
    assert (flags - {"module"}, tuple(found[3:6])) == INFO[name]


def test_every_command_is_in_the_table_of_flags(client: redis.Redis) -> None:
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("COMMAND", lambda reply, **_: reply)
    names = {each[0].decode().upper() for each in reader.execute_command("COMMAND")}
    assert {name for name in names if name.startswith("GEARSYNC.")} == {f"GEARSYNC.{name}" for name in INFO}


def test_keys_of_commands_are_what_the_cluster_needs(client: redis.Redis) -> None:
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("COMMAND", lambda reply, **_: reply)
    for words, keys in ((["ACK", "lane", "1-1"], [b"lane"]), (["RECAPTURE", "a", "b"], [b"a", b"b"])):
        assert reader.execute_command("COMMAND", "GETKEYS", f"GEARSYNC.{words[0]}", *words[1:]) == keys


def test_no_junk_crashes_the_server_or_spoils_the_registry() -> None:
    with module_server() as server, connect(server) as client:
        report = fuzz.run(client, seed=SEED, seconds=FUZZ_SECONDS)
        used = psutil.Process(server.pid).cpu_times()
        print(f"{report.commands:,} commands, {used.user + used.system:.0f} CPU seconds of the server")
        assert report.commands > 100
        assert report.accepted > 0 and report.refused > 0, report
        assert server.process is not None and server.process.poll() is None
        assert "crashed" not in server.log_text().lower()
