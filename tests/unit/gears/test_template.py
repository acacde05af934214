"""Key templates against the vectors that the C module is held to as well, and against themselves."""

from __future__ import annotations

import json
import os
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gears.declaring.errors import KeyPartError, TemplateError
from gears.declaring.template import Template

with open(os.path.join(os.path.dirname(__file__), "..", "..", "vectors.json"), encoding="utf-8") as file:
    VECTORS = json.load(file)


@pytest.mark.parametrize(
    "vector", VECTORS["templates"], ids=lambda v: f"{v['template'][:20]}-{v['key_hex'][:24]}"
)
def test_match_gives_what_the_vectors_say(vector: dict[str, Any]) -> None:
    expected = vector["match_hex"]
    found = Template(vector["template"]).match(bytes.fromhex(vector["key_hex"]))
    assert found == (None if expected is None else tuple(bytes.fromhex(part) for part in expected))


@given(
    st.sampled_from(["p:{a}", "p:{a}:{b}", "{a}x", "p:{a}é{b*}", "{a}", "ü{a}z", "a.b+{a}$"]),
    st.lists(
        st.sampled_from(["p:", "1", ":", "é", "ü", "x", "\n", "a.b+", "$", "z", "\u2028", "É"]), max_size=6
    ),
)
def test_a_key_that_is_text_is_covered_as_its_bytes_are(text: str, parts: list[str]) -> None:
    template, key = Template(text), "".join(parts)
    assert bool(template.covers_text(key)) == bool(template.covers(key.encode()))


@pytest.mark.parametrize("text", VECTORS["bad_templates"])
def test_bad_templates_of_the_vectors_are_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text)


@pytest.mark.parametrize("vector", VECTORS["lanes"], ids=lambda v: f"{v['key_hex'][:16]}-{v['lanes']}")
def test_lane_vectors_are_fnv_1a(vector: dict[str, Any]) -> None:
    """The vectors themselves are right: FNV-1a with 64 bits, computed here anew."""
    hashed = 0xCBF29CE484222325
    for byte in bytes.fromhex(vector["key_hex"]):
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    assert hashed % vector["lanes"] == vector["lane"]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "no {name}"),
        ("person", 0, "no {name}"),
        ("person:{}", 7, "no name"),
        ("person:{*}", 7, "no name"),
        ("person:{id", 7, "not closed"),
        ("person:id}", 9, "closes nothing"),
        ("p:{a}{b}", 5, "side by side"),
        ("p:{a*}:b", 2, "only stand at the end"),
        ("p:{a}:{a}", 6, "twice"),
        ("p:{a}:{a*}", 6, "twice"),
        ("p:{a:int}", 4, "can't hold ':'"),
        ("p:{a{b}", 4, "can't hold '{'"),
        ("p:{a\nb}", 4, "can't hold"),
    ],
)
def test_a_mistake_in_a_template_says_where_and_what(text: str, position: int, words: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text)
    assert caught.value.position == position
    assert f"character {position + 1} " in str(caught.value)
    assert words in str(caught.value)


def test_names_and_prefix() -> None:
    template = Template("order:{tenant}:{order_id*}")
    assert template.names == ("tenant", "order_id")
    assert template.prefix == b"order:"
    assert Template("{{x}}{id}").prefix == b"{x}"
    assert Template("{id}:x").prefix == b""


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("person:{id}", "person:{name}", True),
        ("person:{id}", "people:{id}", False),
        ("person:{id}", "person:{a}:{b}", False),
        ("person:{id*}", "person:{a}:{b}", True),
        ("person:{id}", "{kind}:{id}", True),
        ("person:{id}", "{all*}", True),
        ("person:{id}", "person:x{id}", True),
        ("a-{x}", "{y}-b", True),
        ("{a}-{b}", "x{c}y", True),
        ("{a}x", "{a}y", False),
        ("{{t}}:{a}", "{b}:{c}", True),
        ("a{x}-c", "a{x}-", False),
        ("a{x}-c:{y}", "a{x}-:{y}", False),
    ],
)
def test_overlaps(one: str, other: str, overlap: bool) -> None:
    assert Template(one).overlaps(Template(other)) is overlap
    assert Template(other).overlaps(Template(one)) is overlap


# With a letter that no template names.
_LETTERS = "abc:"
_KEYS = [bytes("".join(key), "ascii") for length in range(1, 7) for key in product(_LETTERS, repeat=length)]
_PARTS = st.lists(st.sampled_from(["a", "b", ":", "{}"]), min_size=1, max_size=4)


def _small_template(parts: list[str], rest: bool) -> Template | None:
    named = [part if part != "{}" else f"{{n{index}}}" for index, part in enumerate(parts)]
    text = "".join(named)
    if rest and text.endswith("}"):
        text = text[:-1] + "*}"
    try:
        return Template(text)
    except TemplateError:
        return None


@given(_PARTS, st.booleans(), _PARTS, st.booleans())
def test_overlap_agrees_with_trying_all_short_keys(a: list[str], ra: bool, b: list[str], rb: bool) -> None:
    one, other = _small_template(a, ra), _small_template(b, rb)
    if one is None or other is None:
        return
    common = [key for key in _KEYS if one.match(key) and other.match(key)]
    assert one.overlaps(other) == bool(common)


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=4), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4
    )
)
def test_a_key_made_from_a_template_matches_it(pieces: list[tuple[str, bytes]]) -> None:
    """Whatever stands in the literals, a key that is put together from parts gives the same parts back."""
    literals = [literal.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for literal, _ in pieces]
    text = "".join(
        literal.replace("{", "{{").replace("}", "}}") + f"{{n{index}}}"
        for index, literal in enumerate(literals)
    )
    values = []
    for index, (_, value) in enumerate(pieces):
        stops = {ord(":")} | ({literals[index + 1].encode()[0]} if index + 1 < len(pieces) else set())
        values.append(bytes(byte if byte not in stops else ord("q") + 1 for byte in value))
        if any(byte in stops for byte in values[-1]):
            return
    key = b"".join(literal.encode() + value for literal, value in zip(literals, values))
    assert Template(text).match(key) == tuple(values)


@pytest.mark.parametrize(
    ("text", "parts", "key"),
    [
        ("person:{id}", [b"7"], b"person:7"),
        ("p:{a}-{b}:{{{c}}}", [b"1", b"x", b"\xff\0"], b"p:1-x:{\xff\0}"),
        ("p:{a*}", [b"a:b:"], b"p:a:b:"),
        ("{a}:{b*}", [b"1", b":"], b"1::"),
    ],
)
def test_format_makes_the_key(text: str, parts: list[bytes], key: bytes) -> None:
    assert Template(text).format(parts) == key


@pytest.mark.parametrize(
    ("text", "parts", "reason"),
    [
        ("person:{id}", [b""], "id is empty"),
        ("person:{id}", [b"a:b"], "id holds ':'"),
        ("p:{a}-{b}", [b"1-2", b"3"], "a holds '-'"),
        ("p:{a}-{b}", [b"1", b"3:4"], "b holds ':'"),
        ("p:{a*}", [b""], "a is empty"),
    ],
)
def test_parts_that_no_key_holds(text: str, parts: list[bytes], reason: str) -> None:
    with pytest.raises(KeyPartError, match=reason):
        Template(text).format(parts)


@given(
    st.sampled_from(["p:{a}:{b}", "{a}-{b}", "p{a}x:{b*}", "{{{a}}}{{{b}"]),
    st.tuples(*[st.one_of(st.binary(max_size=4), st.text("ab-x:{}", max_size=4).map(str.encode))] * 2),
)
def test_format_is_what_match_undoes_or_an_error(text: str, parts: tuple[bytes, bytes]) -> None:
    template = Template(text)
    try:
        key = template.format(parts)
    except KeyPartError as error:
        assert template.text in str(error)
        return
    assert template.match(key) == parts


@pytest.mark.parametrize("text", ["p:{a}", "p:{a}-{b}:x", "{a}:{b*}"])
def test_many_at_once_are_as_each_alone(text: str) -> None:
    template = Template(text)
    rows = [(b"1", b"2"), (b"x", b"y:z")] if text.endswith("*}") else [(b"1", b"2"), (b"x", b"y")]
    columns = [column[: len(rows)] for column in zip(*rows)][: len(template.names)]
    keys = template.format_all(columns)
    assert keys == [template.format(row) for row in zip(*columns)]
    assert keys is not None
    assert template.match_all([*keys, b"other"]) == [*zip(*columns), None]
    assert template.match_all(keys) == [*zip(*columns)]


@pytest.mark.parametrize("column", [[b"1", b""], [b"1", b"a:b"], [b"1", None]])
def test_a_row_without_a_key_among_many(column: list[bytes | None]) -> None:
    assert Template("p:{a}").format_all([column]) is None


@pytest.mark.parametrize("text", ["person:{id}", "person:{id*}", "{id}", "person:{id}:x"])
def test_many_keys_are_matched_as_each_of_them_is(text: str) -> None:
    template = Template(text)
    keys = [b"person:1", b"person:23"]
    for more in ([], [b"person:"], [b"person:4:5"], [b"people:6"], [b"person:7:x"], [b""]):
        assert template.match_all([*keys, *more]) == [template.match(key) for key in [*keys, *more]]
    assert template.match_all([]) == []
