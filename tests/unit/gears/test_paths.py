"""Paths into JSON documents, and what of a document a column gets."""

from __future__ import annotations

from typing import Any

import pytest

from gears.declaring import paths

DOCUMENT = paths.read(
    '{"a": {"b c": [1, {"d": 2.50}]}, "é": "x", "n": null, "t": true, "big": 123456789012345678901234567890, '
    '"e": 1E400, "q\\"\'": 7, "twice": 1, "twice": 2, "s": "1", "": 0}'
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.a['b c'][0]", b"1"),
        ('$.a["b c"][1].d', b"2.50"),
        ("$['a']['b c'][-1]", b'{"d":2.50}'),
        ("$.a", b'{"b c":[1,{"d":2.50}]}'),
        ("$.é", b"x"),
        ("$.t", b"true"),
        ("$.n", None),
        ("$.big", b"123456789012345678901234567890"),
        ("$.e", b"1E400"),
        ("$['q\"\\'']", b"7"),
        ('$["q\\"\'"]', b"7"),
        ("$.twice", b"2"),
        ("$.s", b"1"),
        ("$['']", b"0"),
    ],
)
def test_what_stands_at_a_path(path: str, expected: bytes | None) -> None:
    assert paths.as_field(paths.find(DOCUMENT, paths.parse(path))) == expected


@pytest.mark.parametrize(
    "path", ["$.b", "$.a.b", "$.a['b c'][2]", "$.a['b c'][-3]", "$.s[0]", "$.n.x", "$[0]"]
)
def test_what_leads_nowhere(path: str) -> None:
    assert paths.find(DOCUMENT, paths.parse(path)) is paths.NOTHING


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("name", "a path begins with $, the document; write $.name"),
        ("$..name", "does not name one place"),
        ("$.*", "does not name one place"),
        ("$[*]", "does not name one place"),
        ("$[0,1]", "does not name one place"),
        ("$[1:2]", "does not name one place"),
        ("$[?(@.a)]", "does not name one place"),
        ("$[01]", "does not name one place"),
        ("$.a b", "at character 4"),
        ("$.", "at character 2"),
        ("$['a", "at character 2"),
        ("$['\\x']", "no name in quotes"),
    ],
)
def test_what_is_no_path(path: str, words: str) -> None:
    with pytest.raises(paths.PathError) as caught:
        paths.parse(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["name", "a b", "a'b", 'a"b', "1", "é-1", "$", "a.b", ""])
def test_the_path_of_a_name_leads_to_its_member(name: str) -> None:
    assert paths.parse(paths.of_name(name)) == (name,)


@pytest.mark.parametrize("text", ['{"a": NaN}', "[1,]", "", "Infinity", "01", "{'a': 1}"])
def test_what_is_no_document(text: str) -> None:
    with pytest.raises(ValueError):
        paths.read(text)


@pytest.mark.parametrize("text", ['{"a":[1.10,-0,"\\"\\n",true,null,{}]}', "[]", '"x"', "1e5", "null"])
def test_a_document_is_written_as_it_was_read(text: str) -> None:
    value: Any = paths.read(text)
    assert paths.written(value) == text
