"""What reads data that others wrote, under hypothesis: changes, dead letters, payloads, paths, templates.

Each of ``PROPERTIES`` holds for every input. What is damaged is refused by the error that says so, or becomes
a dead letter; nothing else is raised.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import assume, given, seed, settings
from hypothesis import strategies as st

from connectors import Target
from gears.applying import deadletters, intents
from gears.applying.change import INTENTS, Change, decode, is_applied
from gears.applying.deadletters import Fault
from gears.declaring import paths
from gears.declaring.deployment import Deployment, wheel_fields
from gears.declaring.errors import KeyPartError, PayloadError, TemplateError
from gears.declaring.functions import build
from gears.declaring.template import Template

BIGGEST = (1 << 63) - 1
"""The largest number that a checkpoint holds."""


class Property:
    """What holds for every input that the strategies make."""

    def __init__(self, checks: Callable[..., None], strategies: tuple[st.SearchStrategy[Any], ...]) -> None:
        self.name = checks.__name__
        self._checks, self._strategies = checks, strategies

    def check(self, options: settings, first_seed: int | None = None) -> None:
        """Try examples. Raises what is wrong with one."""
        test = options(given(*self._strategies)(self._checks))
        (test if first_seed is None else seed(first_seed)(test))()


PROPERTIES: list[Property] = []


def holds(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
    """Make a property of a function."""
    return lambda checks: PROPERTIES.append(Property(checks, strategies))


short = st.binary(max_size=12)
ops = st.sampled_from([b"u", b"r", b"n", b"d", b"x", b"v", b"f", b"t", b"m", b"i", b"q", b"U", b"R", b"D"])
epochs = st.one_of(
    st.integers(0, 1 << 64).map(lambda number: b"%x" % number), st.from_regex(rb"[0-9a-fA-F]{0,20}\Z")
)
metas = st.one_of(
    st.tuples(ops, epochs, st.one_of(st.just(b""), st.binary(max_size=9).map(lambda text: b":" + text))).map(
        b"".join
    ),
    short,
)
pairs = st.one_of(
    st.builds(
        lambda key, meta, image: [b"k", key, b"m", meta, *(part for pair in image for part in pair)],
        short,
        metas,
        st.lists(st.tuples(short, short), max_size=4),
    ),
    st.lists(short, max_size=8).map(lambda parts: parts[: len(parts) // 2 * 2]),
)
entries = st.lists(pairs, max_size=5).map(
    lambda all_pairs: [(b"%d-0" % at, each) for at, each in enumerate(all_pairs)]
)
faults = st.lists(st.builds(Fault, st.text(), st.text(), st.text(), st.text()), min_size=1, max_size=3)


@holds(entries, faults)
def changes_and_letters(read: list[tuple[bytes, list[bytes]]], wrong: list[Fault]) -> None:
    """Every entry is a change that a checkpoint can hold, or malformed; each can be a dead letter."""
    changes, malformed = decode(read)
    found = [each.entry_id for each in changes] + [each.entry_id for each in malformed]
    assert sorted(found) == sorted(entry_id for entry_id, _ in read)
    for change in changes:
        assert 0 <= change.position.epoch <= BIGGEST
        assert is_applied(change, change.position)
        assert len(change.fields) == len(change.values) and change.op and isinstance(change.node, bytes)
        _check_letter(deadletters.of_change(change, wrong), change.key)
    for entry in malformed:
        assert entry.reason
        _check_letter(deadletters.of_malformed(entry), None)
    _check_intents([change for change in changes if change.op in INTENTS])


def _check_letter(letter: deadletters.Letter, key: bytes | None) -> None:
    assert key is None or letter.fields["key"] == key
    assert isinstance(json.loads(letter.fields["image"]), dict)
    assert isinstance(json.loads(letter.fields["functions"]), list)
    assert all(isinstance(value, bytes) for value in letter.fields.values())


def _check_intents(changes: list[Change]) -> None:
    assert [each for intent in intents.intents_of(changes) for each in intent.entries] == changes
    outcomes = [intents.Outcome(each.id, each.command, "no") for each in intents.intents_of(changes)]
    assert intents.outcomes_of(intents.record_of(outcomes)) == outcomes


# -- Payloads ----------------------------------------------------------------------------------------------

_OPTIONS: dict[str, Any] = {"keys": "a:{id}", "table": "t", "columns": {"f": "c"}, "name": "t"}


def _payload() -> dict[str, Any]:
    functions = []
    for kind in ("write-behind", "write-through", "read-through", "write-around"):
        function, mistakes = build(kind, dict(_OPTIONS, name=kind), "db", None, "")
        assert function is not None and not mistakes
        functions.append(function)
    made = Deployment("people", functions=functions, targets={"db": Target("env:DB", name="db")})
    made.requirements, made.wheels = ["x>=1"], {"x-1-py3-none-any.whl": "0" * 64}
    document: dict[str, Any] = json.loads(made.to_payload())
    return document


PAYLOAD = _payload()
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["a:{b}", "{"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [here, *(place for key, each in inner for place in _places(each, (*here, key)))]


@holds(st.lists(st.tuples(st.sampled_from(_places(PAYLOAD)[1:]), st.booleans(), json_values), max_size=3))
def payloads(spoilt: list[tuple[tuple[Any, ...], bool, Any]]) -> None:
    """A payload in which values are gone or others is damaged, or a deployment that is written as it was."""
    document = json.loads(json.dumps(PAYLOAD))
    for place, gone, value in spoilt:
        _spoil(document, place, gone, value)
    try:
        made = Deployment.from_payload(json.dumps(document))
    except PayloadError as error:
        assert str(error)
        return
    text = made.to_payload()
    assert Deployment.from_payload(text).to_payload() == text
    wheel_fields(text)
    assert all(isinstance(each, bytes) for each in made.deploy_arguments())


def _spoil(document: Any, place: tuple[Any, ...], gone: bool, value: Any) -> None:
    try:
        for step in place[:-1]:
            document = document[step]
        if gone:
            del document[place[-1]]
        else:
            document[place[-1]] = value
    except (KeyError, IndexError, TypeError):
        # It was taken away with what it stood in.
        return


@holds(st.one_of(st.binary(max_size=40), st.text(max_size=40), json_values.map(json.dumps)))
def payloads_of_anything(text: str | bytes) -> None:
    """What is no payload at all is said to be none."""
    try:
        Deployment.from_payload(text)
    except PayloadError:
        return
    raise AssertionError("it was taken for a payload")


# -- Paths and templates -------------------------------------------------------------------------------------

steps = st.one_of(
    st.text(alphabet="ab.$[]'\"\\*:?-0129é ", max_size=12),
    st.text(max_size=6).map(lambda name: paths.of_name(name)[1:]),
    st.integers(-3, 3).map(lambda number: f"[{number}]"),
)


@holds(st.lists(steps, max_size=4), json_values)
def paths_and_documents(parts: list[str], document: Any) -> None:
    """A text is a path or none; what a path leads to can be written."""
    read = paths.read(json.dumps(document, allow_nan=True).replace("NaN", "0").replace("Infinity", "1"))
    assert paths.read(paths.written(read)) == read
    try:
        path = paths.parse("$" + "".join(parts))
    except paths.PathError as error:
        assert str(error)
        return
    found = paths.find(read, path)
    if found is not paths.NOTHING:
        try:
            assert found is None or isinstance(paths.as_field(found), bytes)
        except UnicodeEncodeError:
            assume(False)


@holds(st.text(max_size=8))
def names_of_members(name: str) -> None:
    """Each name of a member has a path that leads to it alone."""
    assert paths.parse(paths.of_name(name)) == (name,)


texts = st.one_of(
    st.text(alphabet="ab:{}*é\n", max_size=16),
    st.lists(st.sampled_from(["a", ":", "{x}", "{y}", "{z*}", "{{", "}}", "é"]), max_size=6).map("".join),
)


@holds(texts, texts, short, st.lists(short, min_size=3, max_size=3))
def templates(text: str, other: str, key: bytes, parts: list[bytes]) -> None:
    """What a template makes of values it reads as those values, in one way and in all."""
    try:
        made, second = Template(text), Template(other)
    except TemplateError as error:
        assert str(error)
        return
    found = made.match(key)
    assert made.match_all([key]) == [found]
    if found is not None:
        assert made.format(found) == key and key.startswith(made.prefix)
        if second.match(key) is not None:
            assert made.overlaps(second) and second.overlaps(made)
    values = parts[: len(made.names)] + [b"1"] * (len(made.names) - len(parts))
    try:
        formed = made.format(values)
    except KeyPartError:
        assert made.format_all([[value] for value in values]) is None
        return
    assert made.match(formed) == tuple(values) and made.format_all([[value] for value in values]) == [formed]
