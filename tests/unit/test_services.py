"""The units of systemd and the Kubernetes objects in examples/, as files."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from deploy.cli import group

EXAMPLES = Path(__file__).parents[2] / "examples"
UNITS = sorted((EXAMPLES / "systemd").glob("*.service"))
OBJECTS: dict[str, dict[str, Any]] = {
    each["kind"]: each
    for each in yaml.safe_load_all((EXAMPLES / "kubernetes" / "worker.yaml").read_text("utf-8"))
}


def is_understood(words: list[str]) -> bool:
    """Whether the command line knows a command with these options; --help looks at no server."""
    known = CliRunner().invoke(group, [words[0], "--help"])
    options = [each.partition("=")[0] for each in words[1:] if each.startswith("--")]
    return known.exit_code == 0 and all(option in known.output for option in options)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text("utf-8")
    program, *words = shlex.split(re.findall(r"^ExecStart=(.*)$", text, re.M)[0])
    assert program == "/opt/gearsync/bin/gearsync" and is_understood(words)
    # What it says by sd_notify is nothing, so that Type=notify would never be up.
    assert re.findall(r"^(Type|Restart)=(.*)$", text, re.M) == [("Type", "exec"), ("Restart", "always")]
    assert re.search(r"^EnvironmentFile=/etc/gearsync/\w+\.env$", text, re.M) and "://" not in text
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return
    # The program is not installed here; all else is as it is.
    copy = tmp_path / unit.name
    copy.write_text(text.replace(program, shutil.which("true") or "/bin/true"))
    done = subprocess.run([verify, "verify", str(copy)], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert ours == []


def test_the_pods_have_what_they_need_and_no_more() -> None:
    pod = OBJECTS["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert is_understood(container["command"][1:])
    probes = [container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    asked = [(probe.get("tcpSocket") or probe["httpGet"])["port"] for probe in probes]
    assert asked == [container["ports"][0]["name"]] * 3
    assert container["command"][-1].endswith(f":{container['ports'][0]['containerPort']}")
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert [list(each) for each in container["envFrom"]] == [["secretRef"]]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
    assert {each["value"] for each in container["env"]} == set(writable)


def test_one_of_the_pods_stays_when_a_node_is_emptied() -> None:
    budget, deployment = OBJECTS["PodDisruptionBudget"], OBJECTS["Deployment"]
    assert (budget["apiVersion"], deployment["apiVersion"]) == ("policy/v1", "apps/v1")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert (
        labels == deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"]
    )
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]
