"""What can be told of an SQL expression without asking the database."""

from __future__ import annotations

import pytest

from connectors import wheres
from connectors.wheres import MYSQL, POSTGRES, SQLITE, STANDARD, Syntax


@pytest.mark.parametrize(
    ("syntax", "where"),
    [
        (STANDARD, "a = 1"),
        (STANDARD, "a = ';--/*' AND (b = 'it''s (')"),
        (STANDARD, 'a = ";" AND "(" = 1'),
        (STANDARD, "a = '\\'"),
        (POSTGRES, "a = $$;($$ AND b = $x$ ) $$ $x$"),
        (POSTGRES, "a = E'\\'; (' AND b # 3 = 1"),
        (POSTGRES, "ate = e'\\''"),
        (POSTGRES, "price$x$ = '\\'"),
        (MYSQL, "a = '\\'; (' AND `;` = \"\\\";\""),
        (SQLITE, "[;] = 1 AND `)` = 2"),
    ],
)
def test_one_expression(syntax: Syntax, where: str) -> None:
    assert wheres.problem(where, syntax) == ""


@pytest.mark.parametrize(
    ("syntax", "where", "reason"),
    [
        (STANDARD, " \n", "empty"),
        (STANDARD, "a = '\udcff'", "no UTF-8"),
        (STANDARD, "a;", "a ;"),
        (STANDARD, "a = 'x';'y'", "a ;"),
        (STANDARD, "a -- b", "comment"),
        (STANDARD, "a /* b */", "comment"),
        (STANDARD, "a = '\\';'", "a ;"),
        (STANDARD, ")(", "character 1 closes"),
        (STANDARD, "((a)", "not closed"),
        (STANDARD, "a = 'b' 'c", "character 9 is not closed"),
        (STANDARD, '"', "character 1 is not closed"),
        (POSTGRES, "a = $x$ $$", "character 5 is not closed"),
        (POSTGRES, "a$$ = ';' ; $$", "a ;"),
        (POSTGRES, "e = '\\';'", "a ;"),
        (POSTGRES, "tie'\\';'", "a ;"),
        (MYSQL, "a = 1 # b", "comment"),
        (MYSQL, "a = 'b\\'", "not closed"),
        (SQLITE, "[a", "not closed"),
    ],
)
def test_no_expression(syntax: Syntax, where: str, reason: str) -> None:
    assert reason in wheres.problem(where, syntax)
