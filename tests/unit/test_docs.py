"""The documentation says what is true: its links, commands, options, functions and variables exist."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from deploy import cli, configuration, reference
from gears import Change
from gears.declaring import config
from gears.worker import logs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
#: Made of the commands and the code themselves, by which other tests hold them.
WRITTEN = [page for page in PAGES if page.name not in ("cli.md", "configuration.md")]
NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
MODULE_COMMAND = re.compile(r"\bGEARSYNC\.[A-Z]+\b")
VARIABLE = re.compile(r"\bGEARSYNC_[A-Z_]+\b")
SHELL = ("", "sh")
DECLARATIONS = ("WriteBehind", "WriteThrough", "ReadThrough", "WriteAround")
#: What a page has declared before the block that uses it.
BEFORE = f"""
from connectors import Target
from gears import Change, {", ".join(DECLARATIONS)}, deployment_settings
reporting = Target("env:REPORTING_DB_URL")
shop = Target("env:SHOP_DB_URL")
"""
ONE = 'WriteBehind(keys="person:{id}", table="persons", columns=["name"], target=shop)'
TOML_BEFORE = '[targets.shop]\nurl = "env:SHOP_DB_URL"\n'
CLI = click.Context(cli.group, info_name="gearsync", auto_envvar_prefix="GEARSYNC")


class Block(NamedTuple):
    place: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(f"{NAMES[page]}:{text.count(chr(10), 0, found.start()) + 1}", found[2], found[3])
        for found in FENCE.finditer(text)
    ]


BLOCKS = [block for page in WRITTEN for block in blocks(page)]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as both GitHub and the site make them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head)).strip() for head in heads]
    return {head.lower().replace(" ", "-") for head in plain}


def ids(block: Block) -> str:
    return block.place


# -- Links and pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES.__getitem__)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.is_file(), f"{NAMES[page]} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(aim), f"{NAMES[page]} links to {link}: no such heading"


def test_pages_of_the_site_link_to_pages_of_the_site_alone() -> None:
    for page in PAGES[1:]:
        assert "](../" not in prose(page), f"{NAMES[page]} links out of docs/, where the site has nothing"


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    pages = [each if isinstance(each, str) else next(iter(each.values())) for part in navigation
             for entries in part.values() for each in entries]  # fmt: skip
    assert sorted(pages) == [page.name for page in PAGES[1:]]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--target [sqlite|postgres|mysql]" in (tmp_path / "cli" / "index.html").read_text("utf-8")
    assert {each.stem for each in PAGES[1:]} - {"index"} < {each.name for each in tmp_path.iterdir()}


def test_the_readme_and_the_quickstart_declare_the_same() -> None:
    """People begin with either; both have been run."""
    first, second = (
        ast.dump(ast.parse(next(each.text for each in blocks(page) if each.language == "python")))
        for page in (ROOT / "README.md", DOCS / "quickstart.md")
    )
    assert first == second


# -- Commands ----------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").split("\n"):
        for part in re.split(r" (?:\||&&) |;", line.strip()):
            if re.match(r"(?:[A-Z_]+=\S+ )*gearsync ", part):
                yield part[part.index("gearsync ") :]


def parse(line: str) -> str:
    """Return what is wrong with a line that calls gearsync; it is not run."""
    words = shlex.split(line, comments=True)[1:]
    context = CLI
    while isinstance(context.command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        command = context.command.get_command(context, name)
        if command is None:
            return f"there is no command {name}"
        context = click.Context(command, info_name=name, parent=context)
    try:
        given, left, _ = context.command.make_parser(context).parse_args(words)
        for parameter in context.command.params:
            _convert(parameter, given.get(parameter.name or ""), context)
    except click.UsageError as error:
        return error.format_message()
    return f"too many arguments: {left}" if left else ""


def _convert(parameter: click.Parameter, value: object, context: click.Context) -> None:
    """Let click judge a value that is written out; files are not there, and FILE or N stand for others."""
    if isinstance(parameter.type, (click.Path, click.File)):
        return
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and not re.fullmatch(r"[A-Z]+", each):
            parameter.type.convert(each, parameter, context)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in SHELL], ids=ids)
def test_commands_in_blocks_exist_with_their_options(block: Block) -> None:
    for line in command_lines(block.text):
        assert not parse(line), f"{block.place}: {line}"


@pytest.mark.parametrize("page", WRITTEN, ids=NAMES.__getitem__)
def test_commands_in_sentences_exist_with_their_options(page: Path) -> None:
    for span in SPAN.findall(prose(page)):
        for line in command_lines(span):
            # A sentence may name an option and leave its value to the reader.
            wrong = parse(line)
            assert not wrong or "requires an argument" in wrong, f"{NAMES[page]}: {line}: {wrong}"


@pytest.mark.parametrize(
    "line",
    [
        "gearsync undo",
        "gearsync wait --timeuot 10",
        "gearsync wait --timeout soon",
        "gearsync deploy functions.py others.py",
        "gearsync deadletters lst",
    ],
)
def test_a_wrong_line_is_found(line: str) -> None:
    assert parse(line)


def test_the_rooms_of_the_design_are_those_of_the_tree() -> None:
    text = (DOCS / "design.md").read_text("utf-8").partition("## Rooms")[2]
    named = set(re.findall(r"\b([a-z_]+)/", text.split("```")[1]))
    tops = ("gears", "connectors", "deploy", "tests", "bench")
    found = {each for top in tops for each in (ROOT / top).rglob("*") if each.suffix in (".py", ".c")}
    rooms = {each.parent.relative_to(ROOT) for each in found}
    assert named <= {part for room in rooms for part in room.parts}
    # What is within the rooms of tests is for who works there.
    assert {room.name for room in rooms if room.parts[0] != "tests"} <= named


def test_commands_of_the_module_exist() -> None:
    sources = [each.read_text("utf-8") for each in (ROOT / "gears/module").rglob("*.[ch]")]
    # In the table of commands.c, or, for those that stand in for commands of clients, where they are made.
    known = {name.upper() for text in sources for name in re.findall(r'"(gearsync\.[a-z]+)"', text)}
    assert "GEARSYNC.DEPLOY" in known
    for page in PAGES:
        unknown = set(MODULE_COMMAND.findall(page.read_text("utf-8"))) - known
        assert not unknown, NAMES[page]


# -- Declarations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "python"], ids=ids)
def test_python_compiles_and_declarations_load(block: Block, tmp_path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(block.text, block.place))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if called & {*DECLARATIONS, "deployment_settings"}:
        path = tmp_path / "functions.py"
        whole = f"from __future__ import annotations\n{BEFORE}\n{block.text}"
        path.write_text(whole if called & {*DECLARATIONS} else f"{whole}\n{ONE}", "utf-8")
        assert config.load(str(path)).functions


def test_the_transform_of_the_guide_takes_whatever_comes(tmp_path: Path) -> None:
    (block,) = (
        each for each in BLOCKS if each.place.startswith("docs/guide.md") and "transform=" in each.text
    )
    path = tmp_path / "functions.py"
    path.write_text(f"from __future__ import annotations\n{BEFORE}\n{block.text}", "utf-8")
    (transform,) = config.load(str(path)).transforms().values()

    def fields(op: str, **given: str) -> object:
        change = transform(Change("order:7", op, given, {"order_id": "7"}))
        return None if change is None else change.fields

    assert fields("upsert", state="paid", email="ada@example.com") == {
        "state": "paid",
        "email": "example.com",
    }
    assert fields("upsert", state="draft", email="ada@example.com") is None
    assert fields("upsert", state="paid") == {"state": "paid"}
    assert fields("delete") == {}


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "toml"], ids=ids)
def test_toml_loads(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "gearsync.toml"
    path.write_text(block.text if "[targets." in block.text else TOML_BEFORE + block.text, "utf-8")
    assert config.load(str(path)).functions or "[[functions]]" not in block.text


# -- Names for programs ------------------------------------------------------------------------------------


def _named(folders: Sequence[str], functions: set[str], at: int) -> set[str]:
    """The texts that calls of these functions have as their argument ``at``, or somewhere from there on."""
    found: set[str] = set()
    for path in (each for folder in folders for each in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in functions:
                values = (str(each.value) for each in node.args[at:] if isinstance(each, ast.Constant))
                found.update(each for each in values if re.fullmatch("[a-z_-]+", each))
    return found


def _in_table(head: str) -> set[str]:
    """The names in the first column of a table of the operations."""
    rows = (
        (DOCS / "operations.md").read_text("utf-8").partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    )
    return {name for row in rows for name in re.findall("`([a-z_]+)`", row.split("|")[1])}


def test_each_event_of_the_log_is_described() -> None:
    known = _named(["gears/worker", "deploy/running"], {"event", "_tell"}, 0) | {logs.FAULT}
    assert "lane_waits" in known
    assert _in_table("| event | level | fields | meaning |") == known


def test_each_finding_of_the_doctor_is_named() -> None:
    text = (DOCS / "operations.md").read_text("utf-8").partition("### The doctor")[2].partition("### ")[0]
    known = {
        *_named(["deploy/doctor"], {"error", "warn", "note", "add"}, 0),
        *_named(["deploy/doctor"], {"of_mistake"}, 1),
    }
    assert "database-away" in known
    assert {each for each in known if f"`{each}`" not in text} == set()


# -- Variables ---------------------------------------------------------------------------------------------


def _known_variables() -> set[str]:
    files = [ROOT / "docker-compose.yml", ROOT / "Dockerfile", ROOT / "Makefile", ROOT / "tests/conftest.py"]
    files += [each for folder in ("gears", "deploy", "tests") for each in (ROOT / folder).rglob("*.py")]
    found = {
        name for each in files if each != Path(__file__) for name in VARIABLE.findall(each.read_text("utf-8"))
    }
    for context in reference.commands(CLI):
        found |= {
            f"{context.auto_envvar_prefix}_{(each.name or '').upper()}" for each in context.command.params
        }
    return found


def test_variables_exist() -> None:
    known = _known_variables()
    for page in PAGES:
        unknown = set(VARIABLE.findall(page.read_text("utf-8"))) - known
        assert not unknown, NAMES[page]


# -- The configuration reference ---------------------------------------------------------------------------


def test_the_configuration_reference_is_current() -> None:
    assert (DOCS / "configuration.md").read_text("utf-8") == configuration.text(), "run: make docs"
