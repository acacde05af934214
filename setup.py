"""Builds the native module beside the Python packages; all else about the project is in pyproject.toml.

The C files in ``gears/module`` become its ``gearsync.so`` with the system's C compiler. It is no Python
extension: Redis loads it, so its name carries no tag of a Python version, and one wheel serves them all.
``CC``, ``CFLAGS`` and ``LDFLAGS`` are taken from the environment; ``CFLAGS`` come last, so that they win.

``build_ext --sanitize`` builds it for tests (``make sanitize``): with the checks of AddressSanitizer and
UndefinedBehaviorSanitizer, as ``build/sanitized/gearsync.so``, beside the one that is there.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import subprocess
from typing import ClassVar

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FOLDER = os.path.join("gears", "module")
FLAGS = ["-std=c11", "-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
#: Elsewhere, a header is named with its folder, as "reads/reads.h".
FLAGS += [f"-I{FOLDER}"]
SANITIZED = os.path.join("build", "sanitized", "gearsync.so")
#: It stays mapped when it is unloaded, so that functions behind a leak that is found afterwards have names.
#: What the compiler thinks of formats is not sound with these checks in the code.
SANITIZE_FLAGS = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-O1", "-Wl,-z,nodelete"]
SANITIZE_FLAGS += ["-Wno-format-truncation", "-Wconversion", "-Wno-sign-conversion", "-Wshadow"]


def version() -> str:
    """Return the version, which stands once, in the module's header."""
    with open(os.path.join(FOLDER, "gearsync.h"), encoding="utf-8") as header:
        found = re.search(r'^#define GEARSYNC_VERSION_TEXT "(.+)"', header.read(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"GEARSYNC_VERSION_TEXT is missing in {FOLDER}/gearsync.h.")
    return found.group(1)


def compiler() -> list[str]:
    """Return the command of the C compiler."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise CompileError(
        "gearsync needs a C compiler to build its Redis module, and none of cc, gcc, clang is in the PATH. "
        "Install one (Debian and Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc; "
        "macOS: xcode-select --install), or name it in CC."
    )


class BuildModule(build_ext):
    """Compile the Redis module in one call; a failed build leaves the module that was there."""

    user_options: ClassVar[list[tuple[str, str | None, str]]] = [
        *build_ext.user_options,
        ("sanitize", None, f"build {SANITIZED}, which finds faults of its memory while it runs"),
    ]
    boolean_options: ClassVar[list[str]] = [*build_ext.boolean_options, "sanitize"]

    def initialize_options(self) -> None:
        super().initialize_options()
        self.sanitize = False

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        output = SANITIZED if self.sanitize else self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(output), exist_ok=True)
        # A running Redis may have the old file mapped: it is replaced by a rename, never written into.
        unfinished = output + ".unfinished"
        flags = FLAGS + SANITIZE_FLAGS if self.sanitize else FLAGS
        command = [*compiler(), *flags, *shlex.split(os.environ.get("CFLAGS", "")), "-o", unfinished]
        command += [*map(str, ext.sources), *shlex.split(os.environ.get("LDFLAGS", ""))]
        try:
            done = subprocess.run(command, check=False)
        except OSError as error:
            raise CompileError(f"the C compiler {command[0]} can't be run: {error.strerror}") from error
        if done.returncode != 0:
            raise CompileError(
                f"the Redis module was not built: {shlex.join(command)} ended with code {done.returncode}. "
                "If only a warning of a newer compiler is in the way, set CFLAGS=-Wno-error."
            )
        os.replace(unfinished, output)


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3 of this platform: what is native in it is no Python extension."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    version=version(),
    ext_modules=[
        Extension(
            "gears.module.gearsync",
            sources=sorted(glob.glob(f"{FOLDER}/**/*.c", recursive=True)),
            depends=sorted(glob.glob(f"{FOLDER}/**/*.h", recursive=True)),
        )
    ],
    cmdclass={"build_ext": BuildModule, "bdist_wheel": PlatformWheel},
)
