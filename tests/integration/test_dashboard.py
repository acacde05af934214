"""gearsync dashboard in a headless Chromium: live figures, dead letters, and a Redis that goes and comes."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.commands.dashboard import TOKEN
from tests.integration import deployed
from tests.integration.command import Process, until
from tests.servers import RedisServer

pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import chromium

SECRET = "0123456789abcdef"
SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\">"
#: Milliseconds within which the page shows what has changed.
SOON = 20_000

expect.set_options(timeout=SOON)


class Dashboard:
    """The command as a process, on a free port."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        given = ["dashboard", "--redis", url, "--listen", "127.0.0.1:0", "--interval", "0.2", *options]
        self.command = Process(folder / "dashboard.log", *given, **{TOKEN: SECRET})
        until(lambda: "Serving " in self.command.text() or self.command.process.poll() is not None)
        found = re.search(r"Serving (\S+)", self.command.text())
        assert found, self.command.text()
        self.url = found[1]

    def figures(self) -> Any:
        """Return what the page asks for, once the server has looked for the first time."""
        while True:
            with urllib.request.urlopen(f"{self.url}api/figures", timeout=10) as answer:
                document = json.load(answer)
            if document["state"] != "starting":
                return document


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    # Not started yet: the page has to wait for it.
    yield (server := deployed.server("--appendonly", "yes"))
    server.stop()


@pytest.fixture(scope="module")
def dashboard(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    serving = Dashboard(tmp_path_factory.mktemp("dashboard"), server.url, "--allow-changes")
    assert serving.figures()["state"] == "away"
    assert "can't be reached: Connection refused" in serving.figures()["problem"]
    with server.start().client() as client:
        deployed.deploy(client)
    until(lambda: serving.figures()["state"] == "live")
    yield serving
    assert serving.command.end() == 0
    assert SECRET not in serving.command.text()


@pytest.fixture
def client(dashboard: Dashboard, server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as connected:
        yield connected
        for lane, dead in deployed.lanes(connected):
            connected.xtrim(dead, 0)
            connected.xtrim(lane, 0)


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    """Open the page; it must neither break nor be refused anything."""
    faults: list[str] = []
    with browser.new_context(viewport={"width": 360, "height": 800}) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None,
        )
        page.goto(dashboard.url)
        yield page
        # Else an answer that is under way fails in the next test.
        page.unroute_all(behavior="wait")
    assert faults == []


def state(page: Page) -> Any:
    return page.locator("#state")


def test_figures_come_by_themselves_in_tables_that_are_read_as_such(page: Page, client: redis.Redis) -> None:
    expect(state(page)).to_have_text("live")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="people v1"))
    expect(row).to_contain_text("stopped")
    client.hset("person:1", "name", "Ada")
    client.hset("person:2", "name", "Alan")
    waiting = {"state": "waiting", "last_error": f"refused {SCRIPT}", "lag_ms": {"p50": 1.2, "p99": 1250.0}}
    deployed.beat(client, targets={"reporting": waiting})

    expect(row.get_by_role("cell").nth(3)).to_contain_text("2 of 10,000,000")
    expect(row.get_by_role("cell").nth(4)).to_have_text("1.2 ms / 1.3 s")
    expect(row).to_contain_text(f"refused {SCRIPT}")
    expect(page.locator("#attention")).to_contain_text(f"target reporting waits: refused {SCRIPT}")
    expect(page.get_by_role("img", name="Backlog, the last five minutes: changes that wait 2")).to_have_count(
        1
    )
    assert page.locator(".chart path").first.get_attribute("d")
    assert page.title() == "gearsync"


def test_hostile_keys_values_and_reasons_are_text(page: Page, client: redis.Redis) -> None:
    deployed.bury(
        client, f"person:{SCRIPT}", f"no {IMAGE}", {"name": IMAGE, SCRIPT: "\u202egnp.exe"}, [IMAGE]
    )
    deployed.bury(
        client, b"person:\xff\x1b[2J", "x" * 3000, {"name": {"base64": "/w=="}, "\udcfe": "y" * 300}
    )

    expect(page.get_by_role("rowheader", name=f"person:{SCRIPT}")).to_have_count(1)
    row = page.locator("#letters tbody tr").filter(has_text=SCRIPT)
    row.get_by_text("Details").click()
    expect(row).to_contain_text(f"no {IMAGE}")
    expect(row).to_contain_text("\\u{202e}gnp.exe")
    other = page.get_by_role("row").filter(has_text="base64: cGVyc29u")
    other.get_by_text("Details").click()
    expect(other).to_contain_text("\\xfe")
    assert page.locator("#letters script, #letters img").count() == 0
    assert page.title() == "gearsync"
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_pages_and_the_filter_by_function(page: Page, client: redis.Redis) -> None:
    for number in range(60):
        deployed.bury(client, f"person:{number}", "no", {}, ["odd" if number % 2 else "even"])
    first = page.locator("#letters tbody tr").first
    expect(first).to_contain_text("person:59")
    page.get_by_role("button", name="Older").click()
    expect(first).to_contain_text("person:34")
    page.get_by_role("button", name="Older").click()
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    expect(page.locator("#letters tbody tr")).to_have_count(10)
    page.get_by_role("button", name="Newer").click()
    expect(first).to_contain_text("person:34")
    page.get_by_role("combobox", name="Function").select_option("even")
    expect(first).to_contain_text("person:58")
    expect(page.locator("#letters tbody tr")).to_have_count(25)


def test_retry_and_drop_by_keyboard_need_the_token(page: Page, client: redis.Redis) -> None:
    client.hset("person:1", "name", "Ada")
    before = len(deployed.changes(client))
    deployed.bury(client, "person:1", "no integer", {"name": "Ada"})
    deployed.bury(client, "person:2", "no integer", {})
    said = page.locator("#said")

    choose(page, "person:1")
    page.get_by_label("Token").fill("a wrong one, long enough")
    page.get_by_role("button", name="Retry chosen").press("Enter")
    expect(said).to_have_text("The token is not the one that gearsync dashboard was started with.")
    assert len(deployed.changes(client)) == before

    page.get_by_label("Token").fill(SECRET)
    page.get_by_role("button", name="Retry chosen").press("Enter")
    expect(said).to_have_text("1 dead letter retried.")
    expect(page.get_by_role("rowheader", name="person:1")).to_have_count(0)
    assert len(deployed.changes(client)) == before + 1

    choose(page, "person:2")
    page.get_by_role("button", name="Drop chosen").press("Enter")
    page.get_by_role("button", name="Keep them").press("Enter")
    expect(page.get_by_role("rowheader", name="person:2")).to_have_count(1)
    page.get_by_role("button", name="Drop chosen").press("Enter")
    page.get_by_role("button", name="Drop them").press("Enter")
    expect(said).to_have_text("1 dead letter dropped.")
    expect(page.locator("#letters")).to_have_text("There are no dead letters.")


def choose(page: Page, key: str) -> None:
    page.get_by_role("checkbox", name=f"Choose the letter of {key}").press("Space")


def test_a_page_that_is_read_only_offers_no_changes(page: Page, client: redis.Redis) -> None:
    def read_only(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps({**answer.json(), "changes": False}))

    page.route("**/api/figures*", read_only)
    page.reload()
    deployed.bury(client, "person:1", "no integer", {})
    expect(page.get_by_role("rowheader", name="person:1")).to_have_count(1)
    expect(page.get_by_role("button", name="Drop chosen")).to_have_count(0)
    assert page.get_by_role("checkbox").count() == 0


def test_a_redis_that_goes_away_is_shown_as_such_until_it_is_back(
    page: Page, client: redis.Redis, server: RedisServer
) -> None:
    deployed.bury(client, "person:1", "no integer", {})
    expect(page.get_by_role("rowheader", name="person:1")).to_have_count(1)
    server.kill9()
    expect(state(page)).to_have_text("Redis is away")
    expect(page.locator("#attention")).to_contain_text("can't be reached: Connection refused")
    expect(page.locator("#said")).to_contain_text("The dead letters can't be read now")
    server.start()
    expect(state(page)).to_have_text("live")
    expect(page.get_by_role("rowheader", name="people v1")).to_have_count(1)
    expect(page.locator("#said")).to_have_text("")


def test_a_server_that_does_not_answer_is_shown_as_such(page: Page) -> None:
    expect(state(page)).to_have_text("live")
    page.route("**/api/*", lambda route: route.abort())
    expect(state(page)).to_have_text("no answer")
    page.unroute("**/api/*")
    expect(state(page)).to_have_text("live")
