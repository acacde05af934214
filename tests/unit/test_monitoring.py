"""Grafana's board and Prometheus' rules about gearsync: they ask for what it exports, and fire when due."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gears.worker.metrics import ALL

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "compose" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
BOARD: dict[str, Any] = json.loads((MONITORING / "gearsync.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
QUERIES = [
    *(target["expr"] for panel in BOARD["panels"] for target in panel["targets"]),
    *(variable["definition"] for variable in BOARD["templating"]["list"]),
    *(rule["expr"] for rule in RULES),
]

#: The labels of each name that Prometheus gets.
EXPORTED = {each.shown: {*each.labels} for each in ALL}


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_names_and_labels_that_are_exported(query: str) -> None:
    names = re.findall(r"\bgearsync_\w+", query)
    assert names or "gearsync:" in query or "up{" in query
    labels: set[str] = set()
    for name in names:
        is_bucket = name.endswith("_bucket")
        plain = name[: -len("_bucket")] if is_bucket else name
        assert plain in EXPORTED, name
        labels |= EXPORTED[plain] | ({"le"} if is_bucket else set())
    asked = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
    asked += re.findall(r"[{,] *(\w+)=~", query)
    for label in filter(None, re.split(r", *", ",".join(asked))):
        assert label in labels, label


def test_recorded_names_are_those_that_alerts_ask_for() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    asked = {name for rule in RULES for name in re.findall(r"gearsync:[\w:]+", rule["expr"])}
    assert recorded == asked


def test_each_alert_says_what_is_wrong_where_and_what_to_do() -> None:
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert "$labels" in rule["annotations"]["summary"]
            assert len(rule["annotations"]["description"]) > 40


def test_the_board_is_whole_and_its_panels_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"] and panel["description"].endswith(".")
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    asked = [*panels, *BOARD["templating"]["list"], *(each for panel in panels for each in panel["targets"])]
    [source] = yaml.safe_load((MONITORING / "datasource.yml").read_text())["datasources"]
    assert all(each["datasource"] == {"type": "prometheus", "uid": source["uid"]} for each in asked)


def test_prometheus_and_grafana_are_given_these_files_and_ask_the_services_of_metrics() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    board = "./compose/monitoring/gearsync.json:/etc/gearsync/dashboards/gearsync.json:ro"
    assert board in services["grafana"]["volumes"]
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    [rules] = prometheus["rule_files"]
    assert f"./compose/monitoring/alerts.yml:/etc/prometheus/{rules}:ro" in services["prometheus"]["volumes"]
    [job] = [each for each in prometheus["scrape_configs"] if each["job_name"] == "gearsync"]
    [discovery] = job["dns_sd_configs"]
    told = {
        name: each["command"] for name, each in services.items() if each.get("command", [""])[0] == "metrics"
    }
    assert set(discovery["names"]) == set(told)
    for command in told.values():
        assert command[-1] == f"0.0.0.0:{discovery['port']}"


def promtool(*arguments: str) -> None:
    """Have promtool look at rules, or test them."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: apt-get install prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ROOT / "tests/unit/alerts.test.yml"))


#: Figures of two shards, of which one is away, and of a deployment whose backlog is bounded in both ways.
FIGURES = {
    'gearsync_shard_up{shard="a"}': 1,
    'gearsync_shard_up{shard="b"}': 0,
    'gearsync_worker_up{shard="a", deployment="shop"}': 0,
    'gearsync_worker_paused{shard="a", deployment="shop"}': 0,
    'gearsync_worker_up{shard="a", deployment="other"}': 0,
    'gearsync_worker_paused{shard="a", deployment="other"}': 1,
    'gearsync_backlog_entries{shard="a", deployment="shop", target="one"}': 10,
    'gearsync_backlog_entries{shard="a", deployment="shop", target="two"}': 10,
    'gearsync_backlog_limit_entries{shard="a", deployment="shop"}': 100,
    'gearsync_backlog_bytes{shard="a", deployment="shop"}': 90,
    'gearsync_backlog_limit_bytes{shard="a", deployment="shop"}': 100,
}
WITHOUT_BYTES = {**FIGURES, 'gearsync_backlog_limit_bytes{shard="a", deployment="shop"}': 0}


@pytest.mark.parametrize(
    ("title", "figures", "shown"),
    [
        ("Shards away", FIGURES, 1),
        ("Shards away", {'gearsync_shard_up{shard="a"}': 1}, 0),
        ("Shards away", {}, None),
        ("Workers down", FIGURES, 1),
        ("Workers down", {}, None),
        ("Fullest backlog", FIGURES, 0.9),
        ("Fullest backlog", WITHOUT_BYTES, 0.2),
        ("Fullest backlog", {}, None),
    ],
)
def test_the_board_shows_what_is_and_nothing_where_nothing_is_known(
    title: str, figures: dict[str, float], shown: float | None, tmp_path: Path
) -> None:
    """A zero for what nobody tells would be green."""
    [query] = [
        target["expr"] for panel in BOARD["panels"] if panel["title"] == title for target in panel["targets"]
    ]
    query = re.sub(r"\$(shard|deployment)", ".*", query)
    expected = [] if shown is None else [{"labels": "{}", "value": shown}]
    asked = {
        "input_series": [{"series": name, "values": f"{value}x2"} for name, value in figures.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "1m", "exp_samples": expected}],
    }
    test = tmp_path / "board.test.yml"
    test.write_text(json.dumps({"evaluation_interval": "1m", "tests": [asked]}), encoding="utf-8")
    promtool("test", "rules", str(test))
