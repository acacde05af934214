"""The module's parsers alone, under a fuzzer and sanitizers: built, given first inputs, and run.

libFuzzer where clang has it; else ``driver.c``, which changes inputs by chance, with any compiler.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

from tests.integration.module.driving import Function, Read, deploy_arguments

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SOURCES = ("api", "registry/deployment", "texts/json", "changes/kinds", "texts/template", "texts/text")
FLAGS = ("-std=c11", "-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
TEMPLATE, ARGUMENTS, SAVED, REPORT = b"\0", b"\1", b"\2", b"\3"
"""The first byte of an input: see parsers.c."""
ROUND_SECONDS = 20
"""How long libFuzzer runs before its CPU time is looked at."""


class Found(Exception):
    """The fuzzer has found something; the message is what it said."""


def build(folder: Path, by_chance: bool = False) -> Path:
    """Build the fuzzer in ``folder``; return it. Its name is that of its kind. Raises CalledProcessError.

    ``by_chance``: driver.c in any case, which is built in half the time.
    """
    sources = [str(ROOT / "gears" / "module" / f"{name}.c") for name in SOURCES]
    words = [*FLAGS, f"-I{ROOT / 'gears' / 'module'}", str(FOLDER / "parsers.c"), *sources]
    compiler = None if by_chance else _clang()
    if compiler is not None:
        fuzzer = folder / "libfuzzer"
        kind = [compiler, "-fsanitize=fuzzer,address,undefined"]
    else:
        fuzzer = folder / "driver"
        kind = [os.environ.get("CC", "cc"), "-fsanitize=address,undefined", str(FOLDER / "driver.c")]
    subprocess.run([*kind, *words, "-o", str(fuzzer)], check=True)
    return fuzzer


@functools.cache
def _clang() -> str | None:
    """Return a clang that has libFuzzer; None: there is none."""
    for name in ("clang", *(f"clang-{version}" for version in range(25, 10, -1))):
        path = shutil.which(name)
        if path is None:
            continue
        done = subprocess.run(
            [path, "-print-file-name=libclang_rt.fuzzer-x86_64.a"], capture_output=True, text=True, check=True
        )
        if os.path.isabs(done.stdout.strip()):
            return path
    return None


def first_inputs(folder: Path) -> list[Path]:
    """Write what is right, or nearly so, for the fuzzer to begin with."""
    vectors = json.loads((ROOT / "tests" / "vectors.json").read_text(encoding="utf-8"))
    made = [
        TEMPLATE + each["template"].encode() + b"\0" + bytes.fromhex(each["key_hex"])
        for each in vectors["templates"]
    ]
    every = Function("{{x}}y:{a}", ["f", "#"], "t2", timeout_ms=5), Function("d:{a*}", None, "t1", 3)
    for functions, targets, reads in [((Function(),), ("t1",), ()), (every, ("t1", "t2"), (Read(),))]:
        words = [
            str(each).encode() for each in deploy_arguments(functions=functions, targets=targets, reads=reads)
        ]
        saved = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in words)
        made += [ARGUMENTS + b"\n".join(words), SAVED + saved]
    # More fields than follow, and far too many.
    made.append(ARGUMENTS + b"\n".join(str(each).encode() for each in [*deploy_arguments()[:-4], 100_000]))
    made.append(REPORT + b'{"a": [1, -2.5e+3, "\\u0041\\n", true, null, {}], "b": {"c": []}}')
    paths = []
    for number, content in enumerate(made):
        paths.append(folder / f"first-{number:03}")
        paths[-1].write_bytes(content)
    return paths


def run(fuzzer: Path, folder: Path, cpu_seconds: float, seed: int) -> str:
    """Fuzz for so many seconds of CPU; return what the fuzzer said last. Raises Found.

    ``folder`` has the first inputs; an input that finds something is left in it.
    """
    if fuzzer.name == "driver":
        inputs = sorted(map(str, folder.glob("first-*")))
        return _one([str(fuzzer), str(cpu_seconds), str(seed), *inputs], folder)
    said, before = "", _cpu_of_children()
    options = ["-max_len=4096", "-timeout=10", "-print_final_stats=1", f"-artifact_prefix={folder}/found-"]
    while _cpu_of_children() - before < cpu_seconds:
        seed += 1
        seconds = int(min(ROUND_SECONDS, cpu_seconds)) + 1
        said = _one(
            [str(fuzzer), *options, f"-max_total_time={seconds}", f"-seed={seed}", str(folder)], folder
        )
    return said


def _one(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, check=False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise Found(f"{' '.join(command)} ended with code {done.returncode}:\n{said[-6000:]}")
    return said


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
