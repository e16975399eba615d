"""What the documents name exists: files, headings, commands with their options, and dependencies."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from headlift.cli import parser

ROOT = Path(__file__).parent.parent
CARDS = [ROOT / "services/headlift/weights" / name for name in ("MODEL_CARD.md", "EDIT_CARD.md")]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *CARDS,
    *sorted((ROOT / "services/headlift/model").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module")
def commands() -> argparse.ArgumentParser:
    return parser()


@each_document
def test_links_and_images_lead_somewhere(path: Path) -> None:
    prose = FENCE.sub("", path.read_text())
    for link in LINK.findall(prose):
        if link.startswith(("https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.is_relative_to(ROOT.resolve()), f"{link} leads out of the repository"
        assert file.exists(), f"{link} does not exist"
        if anchor:
            assert anchor in anchors(file), f"{link}: no heading of that name"


@each_document
def test_commands_are_accepted_by_the_command_line(path: Path, commands: argparse.ArgumentParser) -> None:
    for line in command_lines(path.read_text()):
        try:
            commands.parse_args(line[1:])
        except SystemExit:
            pytest.fail(f"not a command line: {shlex.join(line)}")


@each_document
def test_commands_in_the_text_name_real_options(path: Path, commands: argparse.ArgumentParser) -> None:
    prose = FENCE.sub("", path.read_text())
    for span in re.findall(r"`(headlift [^`]+)`", prose):
        command, options = commands, []
        for word in span.split()[1:]:
            deeper = subcommands(command)
            if word.startswith("-"):
                options.append(word.split("=")[0])
            elif deeper and not options:
                assert word in deeper, f"`{span}`: no command {word}"
                command = deeper[word]
        known = {name for action in command._actions for name in action.option_strings}
        assert set(options) <= known, f"`{span}`: no option {set(options) - known}"


def test_python_examples_import_what_exists() -> None:
    blocks = [block for path in DOCUMENTS for kind, block in FENCE.findall(path.read_text()) if kind == "python"]
    imports = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module or "")
        for name in node.names:
            assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def test_examples_are_found() -> None:
    lines = command_lines("```bash\nA=1 headlift serve \\\n  --web > log && headlift list  # all\npip list\n```\n")
    assert lines == [["headlift", "serve", "--web"], ["headlift", "list"]]
    assert len(command_lines((ROOT / "README.md").read_text())) > 10


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.name)
def test_a_card_is_one_page(card: Path) -> None:
    assert len(card.read_text().splitlines()) <= 120


def test_every_dependency_has_its_reason() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2]
    first_column = " ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| "))
    named = set(re.findall(r"@?[\w./-]*\w", first_column))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[\[<>=;~! ]", requirement)[0]
        for requirements in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in requirements
    } - {"headlift"}
    for file in ("services/editor", "tests/deploy/npm", "tests/formats/npm"):
        package = json.loads((ROOT / file / "package.json").read_text())
        for kind in ("dependencies", "devDependencies", "optionalDependencies"):
            wanted |= set(package.get(kind, {}))
    assert wanted <= named, f"not in the table of CONTRIBUTING.md: {sorted(wanted - named)}"


def command_lines(text: str) -> list[list[str]]:
    """The calls of ``headlift`` in a document's shell blocks, without comments, variables and redirections."""
    found = []
    for kind, block in FENCE.findall(text):
        if kind not in ("bash", "sh"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part.partition(" >")[0], comments=True)
                while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
                    words.pop(0)
                if words[:1] == ["headlift"]:
                    found.append(words)
    return found


def subcommands(command: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below one."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def anchors(file: Path) -> set[str]:
    """What a document's headings are called in links to them, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
