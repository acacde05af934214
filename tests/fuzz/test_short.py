"""The short form of fuzzing, a second or so of each; ``make fuzz`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.fuzz import decoders, parsers
from tests.sanitizers import libraries


@pytest.mark.parametrize("tried", decoders.PROPERTIES, ids=lambda each: str(each.name))
def test_nothing_makes_a_decoder_fail(tried: decoders.Property) -> None:
    tried.check(settings(max_examples=40, deadline=None))


@pytest.mark.skipif(not libraries(), reason="the compiler has no sanitizers")
def test_nothing_makes_a_parser_of_the_module_fail(tmp_path: Path) -> None:
    fuzzer = parsers.build(tmp_path, by_chance=True)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    parsers.first_inputs(inputs)
    parsers.run(fuzzer, inputs, 1, seed=1)
