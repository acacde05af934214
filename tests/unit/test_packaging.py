"""The project's own files: the build, the configuration, the languages they keep to."""

from __future__ import annotations

import ast
import ctypes
import glob
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: These also run inside RedisGears, on Python 3.7.
OLD_PYTHON = [
    *sorted((ROOT / "connectors").rglob("*.py")),
    *sorted((ROOT / "gears" / "declaring").rglob("*.py")),
    *sorted((ROOT / "gears" / "applying").rglob("*.py")),
]

#: What is looked at here does not depend on the optimiser, which takes most of the time.
QUICK = {"CFLAGS": "-O0"}


def build(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        str(folder),
        "--build-temp",
        str(folder),
    ]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **QUICK, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_module_is_built_without_a_python_tag_and_exports_only_what_redis_calls(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    built = tmp_path / "gears" / "module" / "gearsync.so"
    assert [each.name for each in built.parent.iterdir()] == ["gearsync.so"]
    assert ctypes.CDLL(str(built)).RedisModule_OnLoad is not None
    if shutil.which("nm"):
        said = subprocess.run(
            ["nm", "-D", "--defined-only", str(built)], capture_output=True, text=True, check=True
        )
        names = {line.split()[-1] for line in said.stdout.splitlines()}
        assert {name for name in names if not name.startswith("_")} == {
            "RedisModule_OnLoad",
            "RedisModule_OnUnload",
        }


def test_without_a_c_compiler_it_says_so(tmp_path: Path) -> None:
    done = build(tmp_path, PATH=str(tmp_path), CC="")
    assert done.returncode != 0
    assert "gearsync needs a C compiler" in done.stderr
    missing = build(tmp_path, CC="no-such-compiler")
    assert "the C compiler no-such-compiler can't be run" in missing.stderr


def test_a_failed_build_leaves_the_module_that_was_there(tmp_path: Path) -> None:
    built = tmp_path / "gears" / "module" / "gearsync.so"
    built.parent.mkdir(parents=True)
    built.write_text("old")
    done = build(tmp_path, CFLAGS="-O0 -DRedisModule_OnLoad=1")
    assert done.returncode != 0
    assert "the Redis module was not built" in done.stderr
    assert built.read_text() == "old"


def test_one_wheel_for_every_python_brings_the_module_and_no_sources(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("connectors", "deploy", "gears", "tests/unit"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True, env={**os.environ, **QUICK})

    [wheel] = tmp_path.glob("*.whl")

    assert re.fullmatch(r"gearsync-[0-9.]+-py3-none-[a-z0-9_]+\.whl", wheel.name)
    assert "-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"gears/module/gearsync.so", "gears/py.typed", "deploy/cli.py", "connectors/__init__.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".h")) or name.startswith("tests/")]


def test_the_version_stands_once() -> None:
    header = (ROOT / "gears" / "module" / "gearsync.h").read_text()
    found = re.search(r'#define GEARSYNC_VERSION_TEXT "(.+)"', header)
    assert found is not None
    assert importlib.metadata.version("gearsync") == found.group(1)


def _python37() -> str | None:
    candidates = [
        shutil.which("python3.7"),
        *glob.glob(os.path.expanduser("~/.pyenv/versions/3.7*/bin/python")),
    ]
    for each in candidates:
        if each and subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0:
            return each
    return None


@pytest.mark.parametrize("path", OLD_PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_runs_inside_redisgears_is_python_37(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), str(path), feature_version=(3, 7))
    assert list(_newer_generics(tree)) == []


def _newer_generics(tree: ast.Module) -> Iterator[int]:
    """Yield the lines where a generic is made as the module is loaded that only 3.9 can make."""
    late = {"list", "dict", "tuple", "set", "frozenset", "type"}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "collections.abc":
            late |= {each.asname or each.name for each in node.names}
    for node in tree.body:
        made = node.bases if isinstance(node, ast.ClassDef) else [getattr(node, "value", None)]
        for each in filter(None, made):
            for part in ast.walk(each):
                if isinstance(part, ast.Subscript) and getattr(part.value, "id", "") in late:
                    yield part.lineno


def test_python_37_itself_compiles_what_runs_inside_redisgears(tmp_path: Path) -> None:
    python = _python37()
    if python is None:
        pytest.skip("no Python 3.7 on this machine; the grammar of 3.7 is held above")
    code = "import py_compile, sys\nfor at in sys.argv[2:]: py_compile.compile(at, sys.argv[1], doraise=True)"
    subprocess.run([python, "-c", code, str(tmp_path / "c"), *map(str, OLD_PYTHON)], check=True)


def test_every_module_of_ours_is_annotated_late_and_documented() -> None:
    for package in ("connectors", "deploy", "gears"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            assert ast.get_docstring(tree), f"{path} has no docstring"


def test_hooks_run_the_projects_own_tools() -> None:
    document = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [each["repo"] for each in document["repos"]] == ["local"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in document["repos"][0]["hooks"])


def test_the_readme_links_to_what_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
