"""The module's commands take what the design says; all else gets one clear error and changes nothing."""

from __future__ import annotations

import json
import os
from typing import Any

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
    status,
)

GOOD = deploy_arguments()
LONG = "n" * 64
#: Seconds of fuzzing; ten minutes before a release.
FUZZ_SECONDS = float(os.environ.get("GEARSYNC_FUZZ_SECONDS", "4"))


def with_argument(at: int, value: Any) -> list[Any]:
    """GOOD with the argument at ``at`` replaced."""
    return [*GOOD[:at], value, *GOOD[at + 1 :]]


def after(word: str, value: Any) -> list[Any]:
    """GOOD with the argument after ``word`` replaced."""
    return with_argument(GOOD.index(word) + 1, value)


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
    "no functions": (after("FUNCTIONS", 0), "(?i)function"),
    "more functions than follow": (after("FUNCTIONS", 2), "(?i)function|target|missing"),
    "a huge count of functions": (after("FUNCTIONS", 2**62), "(?i)function"),
    "a function of an unknown target": (deploy_arguments(functions=[Function(target="t9")]), "(?i)target"),
    "a database below 0": (deploy_arguments(functions=[Function(db=-1)]), "(?i)database"),
    "an empty template": (deploy_arguments(functions=[Function("")]), "(?i)template"),
    "an unknown flush policy": (deploy_arguments(functions=[Function(flush="MAYBE")]), "KEEP or DELETE"),
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
    assert len(str(error.value)) < 400
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
        ("UNDEPLOY", ["people", "NOW"], "use GEARSYNC.UNDEPLOY"),
        ("UNDEPLOY", ["people", "DISCARD", "x"], "wrong number"),
        ("DEPLOYMENTS", ["x"], "wrong number"),
        ("LANES", [], "wrong number"),
        ("LANES", ["nobody"], "no deployment of that name"),
        ("ACK", ["gearsync:{0}:lane:x", "1-1"], "no lane of that name"),
        ("ACK", ["person:1", "1-1"], "no lane of that name"),
        ("ACK", ["LANE"], "wrong number"),
        ("ACK", ["LANE", "1"], "the id must be"),
        ("ACK", ["LANE", "1-"], "the id must be"),
        ("ACK", ["LANE", "-1-1"], "the id must be"),
        ("ACK", ["LANE", "99999999999999999999-1"], "the id must be"),
        ("ACK", ["LANE", "1-1\0"], "the id must be"),
        ("RECAPTURE", [], "wrong number"),
        ("HEARTBEAT", ["people", "w"], "wrong number"),
        ("HEARTBEAT", ["people", "w", "text"], "must be a JSON object"),
        ("HEARTBEAT", ["people", "w", "{"], "must be a JSON object"),
        ("EPOCH", ["x"], "can only be raised"),
        ("EPOCH", ["0"], "can only be raised"),
        ("EPOCH", ["-5"], "can only be raised"),
        ("EPOCH", ["9", "9"], "wrong number"),
        ("STATUS", ["x"], "wrong number"),
        ("REFUSE", [], "wrong number"),
        ("NOTHING", [], "unknown command"),
    ],
)
def test_wrong_use_changes_nothing(
    client: redis.Redis, command: str, arguments: list[str], reason: str
) -> None:
    deploy(client)
    client.hset("person:1", "first", "Ada")
    lane = lanes(client)[0]
    before = changes(client), client.execute_command("GEARSYNC.EPOCH"), sorted(client.keys("*"))
    given = [lane if each == "LANE" else each for each in arguments]
    with pytest.raises(redis.ResponseError, match=reason):
        client.execute_command(f"GEARSYNC.{command}", *given)
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


def test_keys_of_commands_are_what_the_cluster_needs(client: redis.Redis) -> None:
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("COMMAND", lambda reply, **_: reply)
    for words, keys in ((["ACK", "lane", "1-1"], [b"lane"]), (["RECAPTURE", "a", "b"], [b"a", b"b"])):
        assert reader.execute_command("COMMAND", "GETKEYS", f"GEARSYNC.{words[0]}", *words[1:]) == keys


def test_no_junk_crashes_the_server_or_spoils_the_registry() -> None:
    with module_server() as server, connect(server) as client:
        report = fuzz.run(client, seconds=FUZZ_SECONDS, seed=20)
        assert report.commands > 100
        assert report.accepted > 0 and report.refused > 0, report
        assert server.process is not None and server.process.poll() is None
        assert "crashed" not in server.log_text().lower()
