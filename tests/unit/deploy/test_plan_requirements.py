"""Requirements that pip would not take, and wheels that are none."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from deploy.checks import requirements
from deploy.checks.findings import Findings
from gears.declaring.deployment import Deployment


def wheel(folder: Path, name: str, *needs: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    metadata = "Name: x\n" + "".join(f"Requires-Dist: {each}\n" for each in needs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{'-'.join(name.split('-')[:2])}.dist-info/METADATA", metadata)
    return path


def check(
    tmp_path: Path, wanted: list[str], wheels: Path | None = None
) -> tuple[Deployment, Findings, dict[str, Path]]:
    deployment = Deployment("people", requirements=wanted)
    findings = Findings()
    folder = None if wheels is None else str(wheels)
    found = requirements.check(deployment, str(tmp_path / "functions.py"), folder, findings)
    return deployment, findings, found


def test_what_pip_takes_passes_unchanged(tmp_path: Path) -> None:
    wanted = [
        "phonenumbers>=8",
        "a[b]==1.0; python_version > '3'",
        "c @ https://example.org/c.zip",
        "d @ git+ssh://git@h/d",
    ]
    deployment, findings, wheels = check(tmp_path, wanted)
    assert (deployment.requirements, findings.mistakes, wheels) == (wanted, [], {})


@pytest.mark.parametrize("text", ["a b", "==1", "-r other.txt", "a=>1"])
def test_what_pip_does_not_take_is_a_mistake(tmp_path: Path, text: str) -> None:
    _, findings, _ = check(tmp_path, [text])
    [mistake] = findings.mistakes
    assert mistake.place.endswith("functions.py") and mistake.option == "requirements"
    assert repr(text) in mistake.message


def test_a_wheel_beside_the_file_becomes_its_exact_version(tmp_path: Path) -> None:
    path = wheel(tmp_path / "dist", "my_helpers-1.2-py3-none-any.whl")
    deployment, findings, wheels = check(tmp_path, ["dist/my_helpers-1.2-py3-none-any.whl"])
    assert findings.mistakes == []
    assert deployment.requirements == ["my-helpers==1.2"]
    assert deployment.wheels == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    assert wheels == {path.name: path}


def test_wheels_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "empty-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("x", "y")
    names = [
        "missing-1-py3-none-any.whl",
        "nonsense.whl",
        "broken-1.0-py3-none-any.whl",
        "empty-1.0-py3-none-any.whl",
    ]
    _, findings, wheels = check(tmp_path, names)
    assert wheels == {}
    missing, nonsense, broken, empty = (mistake.message for mistake in findings.mistakes)
    assert "does not exist" in missing
    assert "no wheel's name" in nonsense
    assert "is not a wheel" in broken
    assert "it holds no METADATA" in empty


def test_all_wheels_of_a_folder_go(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    names = ["a_b-1.5-py3-none-any.whl", "dep-2-py3-none-any.whl"]
    for name in names:
        wheel(folder, name)
    deployment, findings, wheels = check(tmp_path, ["A.b>=1", "never; python_version < '3'"], folder)
    assert findings.mistakes == []
    assert (list(deployment.wheels), sorted(wheels)) == (names, names)


def test_a_folder_of_wheels_must_hold_what_is_required(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    wheel(folder, "a-1.0-py3-none-any.whl")
    _, findings, _ = check(tmp_path, ["a>=2", "b"], folder)
    assert [mistake.message for mistake in findings.mistakes] == [
        "a>=2: among the wheels there is only 1.0",
        "b: among the wheels there is none of it",
    ]


def test_a_wheel_beside_the_file_needs_all_others_too(tmp_path: Path) -> None:
    """With a wheel pip asks no index: what is lacking would stop the worker once it is deployed."""
    wheel(tmp_path, "a-1.0-py3-none-any.whl", "b>=2", "c; extra == 'more'", "d; python_version < '4'")
    wheel(tmp_path, "c-1.0-py3-none-any.whl", "e", "not what; it was")
    names = ["a-1.0-py3-none-any.whl", "c-1.0-py3-none-any.whl", "f"]
    assert [each.message for each in check(tmp_path, names)[1].mistakes] == [
        "f: among the wheels there is none of it",
        "b>=2, which a requires: among the wheels there is none of it",
        "e, which c requires: among the wheels there is none of it",
    ]


def test_extras_need_their_wheels(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    wheel(folder, "a-1.0-py3-none-any.whl", "b; extra == 'more'", "c; extra == 'other'", "a")
    assert check(tmp_path, ["a"], folder)[1].mistakes == []
    [mistake] = check(tmp_path, ["a[more]"], folder)[1].mistakes
    assert mistake.message == "b, which a requires: among the wheels there is none of it"
    # Which of two versions pip takes is its own choice.
    wheel(folder, "a-2.0-py3-none-any.whl")
    assert check(tmp_path, ["a[more]"], folder)[1].mistakes == []
    [mistake] = check(tmp_path, ["a @ https://example.org/a-3.0-py3-none-any.whl"], folder)[1].mistakes
    assert "without a URL" in mistake.message


@pytest.mark.parametrize(
    "url", ["https://user:hidden@example.org/a.zip", "https://hidden@example.org/a-1.0-py3-none-any.whl"]
)
def test_a_login_in_a_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    deployment, findings, _ = check(tmp_path, [f"a @ {url}"])
    [mistake] = findings.mistakes
    assert "holds a login" in mistake.message and "hidden" not in mistake.message
    assert deployment.requirements == []


def test_a_folder_that_is_not_there_or_empty(tmp_path: Path) -> None:
    assert "does not exist" in check(tmp_path, [], tmp_path / "nowhere")[1].mistakes[0].message
    (tmp_path / "empty").mkdir()
    assert "no wheel" in check(tmp_path, [], tmp_path / "empty")[1].mistakes[0].message
