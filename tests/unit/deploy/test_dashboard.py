"""The web page's server: who may ask for what, over a board that no Redis stands behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from deploy.cli import group
from deploy.commands.dashboard import TOKEN
from deploy.dashboard import app, serving, shown
from deploy.dashboard.board import Board, Snapshot
from deploy.dashboard.guard import HEADERS, Changes, Hosts, is_loopback
from deploy.letters import pages, store
from deploy.letters import retry as letter_retry
from deploy.letters.pages import Place
from deploy.letters.retry import Tried
from deploy.letters.store import Letter
from deploy.output import CommandError
from deploy.reaching.shards import Shard
from deploy.watching.measures import (
    Backlog,
    DeploymentFigures,
    Flow,
    Lag,
    Sample,
    ShardFigures,
    WorkerFigures,
)
from tests.asgi import Answer, ask

SECRET = "0123456789abcdef"
LETTER = {"letters": ["1-0 stream"]}


class FakeBoard:
    """A board with a given snapshot; Redis is reached unless it holds no answers."""

    interval = 2.0

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def reached(self) -> Any:
        if not self.snapshot.answers:
            raise CommandError("Redis at h:1 can't be reached.", "start it.")
        return object(), self.snapshot.answers


def figures(history: tuple[Sample, ...] = ()) -> ShardFigures:
    deployment = DeploymentFigures(
        "crm",
        1,
        "active",
        WorkerFigures("running", 0, 5),
        Flow(1, 1, 0.5, None),
        Backlog(1, 1, None),
        Lag(1.0, 2.0),
        0,
        "",
        (),
        (),
        history,
    )
    return ShardFigures("h:1", True, "", "primary", "7.0.15", 1, (deployment,))


ANSWER: dict[str, Any] = {"address": "h:1", "deployments": []}
LIVE = Snapshot(
    100.0, (figures((Sample(98.0, 1.0, None, 3, 2.0), Sample(100.0, 2.0, 1.0, 4, None))),), (ANSWER,)
)


class Client:
    """Asks the page's application."""

    def __init__(self, snapshot: Snapshot = LIVE, token: str | None = None) -> None:
        board = cast(Board, FakeBoard(snapshot))
        self._app = app.create(board, Changes(token), Hosts(["figures.example"]))

    def get(self, path: str, **headers: str) -> Answer:
        return ask(self._app, "GET", path, {"host": "127.0.0.1:8400", **headers})

    def post(self, path: str, body: str, headers: dict[str, str]) -> Answer:
        return ask(self._app, "POST", path, {"host": "127.0.0.1:8400", **headers}, body.encode())


@pytest.mark.parametrize("path", ["/", "/assets/page.js", "/api/figures", "/nothing", "/api/letters?size=0"])
def test_every_answer_has_the_headers_that_keep_other_pages_out(path: str) -> None:
    headers = Client().get(path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8400", "localhost", "[::1]:8400", "10.1.2.3", "FIGURES.example:80"]
)
def test_it_is_served_under_its_address_and_its_names(host: str) -> None:
    assert Client().get("/", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8400", "127.0.0.1.evil.example", "", "[::1", "@"]
)
def test_a_name_that_somebody_elses_dns_points_here_is_refused(host: str) -> None:
    answer = Client().get("/api/figures", host=host)
    assert answer.status == 421
    assert "h:1" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_holds_no_script_or_style_of_its_own_and_names_only_what_is_served() -> None:
    served = Client()
    page = served.get("/").text
    assert "<style" not in page and " style=" not in page and " on" not in page.replace(" one", "")
    for name in app.ASSETS:
        if name != "page.html":
            answer = served.get(f"/assets/{name}")
            assert answer.headers["content-type"].startswith(app.ASSETS[name])
            assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", ""), name
    there = {each.name for each in (Path(app.__file__).parent / "assets").iterdir()}
    assert there == set(app.ASSETS)


def test_figures_are_those_of_the_board_and_only_newer_samples() -> None:
    answer = Client().get("/api/figures").json()
    assert (answer["state"], answer["changes"], answer["interval"]) == ("live", False, 2.0)
    [shard] = answer["shards"]
    assert shard["deployments"][0]["history"] == [[98.0, 1.0, None, 3, 2.0], [100.0, 2.0, 1.0, 4, None]]
    newer = Client().get("/api/figures?since=98").json()
    assert newer["shards"][0]["deployments"][0]["history"] == [[100.0, 2.0, 1.0, 4, None]]
    assert Client().get("/api/figures?since=x").status == 400


@pytest.mark.parametrize(
    ("snapshot", "state"),
    [
        (Snapshot(), "starting"),
        (LIVE, "live"),
        (Snapshot(1.0, (figures(), ShardFigures("h:2", False, "gone")), (ANSWER,)), "partly"),
        (Snapshot(1.0, (ShardFigures("h:2", False, "gone"),)), "away"),
        (Snapshot(1.0, problem="Redis at h:1 can't be reached."), "away"),
    ],
)
def test_what_the_page_says_of_itself(snapshot: Snapshot, state: str) -> None:
    assert Client(snapshot).get("/api/figures").json()["state"] == state


def test_without_redis_letters_are_an_error_that_says_why() -> None:
    answer = Client(Snapshot(1.0)).get("/api/letters")
    assert (answer.status, answer.json()) == (
        503,
        {"error": "Redis at h:1 can't be reached. Try: start it."},
    )


@pytest.mark.parametrize("query", ["size=0", "size=101", "size=x", f"size={'1' * 5000}", "before=x"])
def test_a_page_that_can_not_be_meant_is_refused(query: str) -> None:
    assert Client().get(f"/api/letters?{query}").status == 400


class Changed:
    """What retry and drop were asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(pages, "find", lambda shards, statuses, places: list(map(str, places)))
        monkeypatch.setattr(
            letter_retry, "retry", lambda _, chosen: Tried(self._note("retry", chosen), [], [])
        )
        monkeypatch.setattr(store, "drop", lambda shards, chosen: len(self._note("drop", chosen)))

    def _note(self, verb: str, chosen: list[Any]) -> list[Any]:
        self.done.append((verb, chosen))
        return chosen


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Changed:
    return Changed(monkeypatch)


AUTHORIZED = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}


def post(
    token: str | None = SECRET,
    path: str = "/api/letters/drop",
    body: str = json.dumps(LETTER),
    **headers: str,
) -> tuple[int, Any]:
    given = {**AUTHORIZED, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = Client(token=token).post(path, body, given)
    return answer.status, answer.json()


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_a_change_by_the_token_is_done(changed: Changed, verb: str) -> None:
    code, answer = post(
        path=f"/api/letters/{verb}", origin="http://127.0.0.1:8400", sec_fetch_site="same-origin"
    )
    assert (code, answer) == (200, {"asked": 1, "done": 1, "uncovered": 0, "left": 0})
    assert changed.done == [(verb, ["1-0 stream"])]


@pytest.mark.parametrize(
    ("code", "given"),
    [
        (403, {"token": None}),
        (401, {"authorization": ""}),
        (401, {"authorization": f"Bearer {SECRET}0"}),
        (401, {"authorization": f"Bearer {SECRET[:-1]}"}),
        (401, {"authorization": f"Basic {SECRET}"}),
        (403, {"origin": "http://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"sec_fetch_site": "cross-site"}),
        (403, {"sec_fetch_site": "same-site"}),
        (403, {"content_type": "text/plain"}),
        (403, {"content_type": "application/x-www-form-urlencoded"}),
        (400, {"body": "{"}),
        (400, {"body": "[]"}),
        (400, {"body": '{"letters": []}'}),
        (400, {"body": '{"letters": [1]}'}),
        (400, {"body": '{"letters": ["x"]}'}),
        (413, {"body": " " * (app.MAX_BODY + 1)}),
    ],
)
def test_any_other_change_is_refused(changed: Changed, code: int, given: dict[str, Any]) -> None:
    found, answer = post(**given)
    assert found == code, answer
    assert SECRET not in json.dumps(answer)
    assert changed.done == []


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_a_change_is_no_page_that_a_link_could_open(changed: Changed, verb: str) -> None:
    assert Client(token=SECRET).get(f"/api/letters/{verb}", **AUTHORIZED).status == 405
    assert changed.done == []


def test_a_letter_of_any_size_and_any_bytes_fits_a_page() -> None:
    image = {**{f"f{n}": "x" * 5000 for n in range(100)}}
    fields = {"key": b"k" * 5000, "reason": b"r" * 5000, "image": json.dumps(image).encode()}
    shard = Shard("h:1", cast(Any, None), "")
    document = shown.letter_document(Letter(shard, "s", "d", "t", "1-0", fields))
    assert (len(document["image"]), document["left_out"]) == (60, 40)
    assert document["key"] == "k" * 1000 + "… (4,000 more characters)"
    assert len(json.dumps(document)) < 100_000
    values: dict[str, Any] = {"\udcff": {"base64": "/w=="}, "large": {"bytes": 5}}
    odd = {"key": b"\xff", "image": json.dumps(values).encode()}
    document = shown.letter_document(Letter(shard, "s", "d", "t", "1-0", odd))
    assert bytes(app.Document(document).body).isascii()
    assert document["image"] == [["\udcff", "base64: /w=="], ["large", "5 bytes, too many for a letter"]]
    assert Place.parse(document["place"]) == Place(1, 0, "s")


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    with serving.listen("127.0.0.1", 0) as taken:
        with pytest.raises(CommandError, match=r"can't listen on 127\.0\.0\.1:\d+: Address already in use"):
            serving.listen("127.0.0.1", taken.getsockname()[1])


def test_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org"]))


def _file(text: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        (folder / "token").write_text(text)
        return ["--token-file", str(folder / "token")]

    return write


@pytest.mark.parametrize(
    ("given", "value", "said"),
    [
        (None, "", "--allow-changes needs a token"),
        (None, "short", "must be 16 or more ASCII characters"),
        (None, "with a blank in between", "must be 16 or more ASCII characters"),
        (_file("\n"), SECRET, "--allow-changes needs a token"),
        (_file("geheimes Wort, ä"), SECRET, "The token can't be read from"),
        (lambda folder: ["--token-file", str(folder / "none")], SECRET, "No such file"),
    ],
)
def test_changes_need_a_token_worth_its_name(
    tmp_path: Path, given: Callable[[Path], list[str]] | None, value: str, said: str
) -> None:
    options = given(tmp_path) if given else []
    done = CliRunner().invoke(group, ["dashboard", "--allow-changes", *options], env={TOKEN: value})
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not value or value not in done.output


@pytest.mark.parametrize(("listen", "warns"), [("0.0.0.0:0", True), ("127.0.0.1:0", False)])
def test_an_address_that_others_reach_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, listen: str, warns: bool
) -> None:
    served: list[object] = []
    monkeypatch.setattr(serving, "serve", lambda *arguments: served.append(arguments))
    done = CliRunner().invoke(group, ["dashboard", "--listen", listen], env={TOKEN: ""})
    assert (done.exit_code, len(served)) == (0, 1)
    assert ("whoever reaches this address reads keys" in " ".join(done.output.split())) == warns


def test_wrong_usage_is_refused() -> None:
    done = CliRunner().invoke(group, ["dashboard", "--listen", "8400"])
    assert (done.exit_code, "'8400' is not HOST:PORT" in done.output) == (2, True)
