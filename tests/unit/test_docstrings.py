"""Every public method says what it does: by its own docstring, or by that of the method it overrides.

Ruff sees to modules, classes and functions, but knows nothing of what is inherited.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("gears", "connectors", "deploy")

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)
Classes = dict[str, list[ast.ClassDef]]


def test_every_public_method_has_a_docstring() -> None:
    classes: Classes = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    classes.setdefault(node.name, []).append(node)
    missing = [
        f"{each.name}.{name}"
        for same in classes.values()
        for each in same
        for name in own_methods(each)
        if not is_told(each, name, classes)
    ]
    assert len(classes) > 300
    assert not missing, "without a docstring: " + ", ".join(sorted(missing))


def own_methods(node: ast.ClassDef) -> set[str]:
    """Return the names of a class's public methods."""
    return {each.name for each in node.body if isinstance(each, Functions) and not each.name.startswith("_")}


def is_told(node: ast.ClassDef, name: str, classes: Classes) -> bool:
    """Whether a method has a docstring, in its class or in a base of that."""
    methods = [each for each in node.body if isinstance(each, Functions) and each.name == name]
    if any(ast.get_docstring(each) for each in methods):
        return True
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    return any(is_told(base, name, classes) for each in bases for base in classes.get(each, []))
