"""The configuration reference has each option that there is, in Python and in TOML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gears
from connectors import Target
from deploy import configuration
from gears.declaring.config import FUNCTION_OPTIONS, TARGET_OPTIONS, TOP_LEVEL

ROOT = Path(__file__).parents[3]
#: For the tests of gearsync itself.
OF_TESTS = ("GEARSYNC_FAILPOINT", "GEARSYNC_FAILPOINT_ONCE", "GEARSYNC_FAILPOINT_VICTIM")


def keys_of(heading: str) -> set[str]:
    section = configuration.text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    "declaration", [gears.WriteBehind, gears.WriteThrough, gears.ReadThrough, gears.WriteAround]
)
def test_each_function_has_the_same_options_in_both_forms(declaration: type[gears.WriteBehind]) -> None:
    assert keys_of(declaration.__name__) | {"kind"} == set(FUNCTION_OPTIONS[declaration.kind])


def test_all_keys_at_the_top_are_named() -> None:
    assert {key.partition(".")[0] for key in keys_of("The deployment")} == set(TOP_LEVEL)


def test_all_of_a_target_is_named() -> None:
    assert keys_of("Targets") == set(TARGET_OPTIONS) | {"name"} == set(configuration.arguments(Target))


def test_all_that_is_read_from_the_environment_is_named() -> None:
    page = configuration.text()
    read = re.compile(
        r"""environ(?:\.get\(|\[)"(GEARSYNC_[A-Z_]+)"|^(?:VARIABLE|TOKEN) = "(GEARSYNC_[A-Z_]+)"$""", re.M
    )
    found = {
        first or second
        for folder in ("gears", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        for first, second in read.findall(path.read_text("utf-8"))
    }
    assert {"GEARSYNC_REDIS_URL", "GEARSYNC_LOG_FORMAT"} < found
    assert {name for name in found if f"`{name}`" not in page} == set(OF_TESTS)
