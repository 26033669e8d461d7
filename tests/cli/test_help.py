"""`guard --help` stays light, and every command is documented."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from guard.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
HEAVY = {
    "sqlalchemy",
    "boto3",
    "botocore",
    "rich",
    "cryptography",
    "presidio_analyzer",
    "spacy",
    "msgspec",
    "jinja2",
    "pyotp",
    "segno",
    "schedule",
    "zstandard",
    "blake3",
    "psycopg",
    "pymysql",
    "guard.app",
    "guard.state",
}

PLANNED = """
init | demo | doctor | status | run | daemon | worker | uninstall
config check|show|schema | state backup|restore|migrate
data scan|catalog|accept|rename|risk|export-test-copy
fields plan|encrypt|verify|finalize|decrypt|rebind|status|search
keys list|rotate|rewrap|retire|destroy|cancel|shred|export|recovery
access add|enrol|list|disable|enable|reset|grant|requests|approve|refuse|view|views
audit list|verify|prove|checkpoint|anchor|ingest|export|witness
retention plan|run|holds
breach open|aware|assess|evidence|scope|notify|status|close|register|drill
backup init|run|list|show|diff|restore|verify|prune|drill|repair|stats|kit
report build|verify|site
"""


def planned() -> set[str]:
    """Every command the design names for what is built so far."""
    names = set()
    for part in re.split(r"[\n]| \| ", PLANNED.strip()):
        group, _, rest = part.strip().partition(" ")
        names |= {f"{group} {name}" for name in rest.split("|")} if rest else {group}
    return names


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command of the program with its path."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group) and not path:
            yield from commands(command, name)
        else:
            yield f"{path} {name}".strip(), command


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['guard', '--help']; from guard.cli.main import call; call(['--help']);"
        "import json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr))
    assert HEAVY & loaded == set()


def test_the_program_has_no_command_the_design_does_not_name() -> None:
    assert {path for path, _ in commands()} <= planned()


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_help_with_an_example(path: str, command: click.Command) -> None:
    text = command.help or ""
    assert text.split("\n")[0].endswith(".")
    assert f"guard {path}" in text or f"guard --json {path}" in text, "no example"


def test_the_table_says_the_same_as_the_commands() -> None:
    for name, (module, text) in COMMANDS.items():
        assert text.endswith(".")
        assert module == f"guard.cli.{name}"


def test_every_option_has_help() -> None:
    silent = [
        f"{path} {option.opts[0]}"
        for path, command in commands()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def written_lines() -> Iterator[str]:
    """Every `guard ...` in README, runbooks and docs: lines of fenced and indented blocks, and words in backticks."""
    for text in (ROOT / "README.md", *sorted((ROOT / "runbooks").glob("*.md")), ROOT / "docs/THREAT_MODEL.md"):
        for number, block in enumerate(text.read_text().split("```")):
            if number % 2:
                lines = [part for line in block.splitlines() for part in line.split("#")[0].split("&&")]
            else:
                indented = re.findall(r"^ {4,}(guard (?:\\\n|.)*)", block, re.MULTILINE)
                lines = [line.replace("\\\n", " ") for line in indented] + re.findall(r"`(guard [^`]+)`", block)
            yield from (f"{text.name}: {line.strip()}" for line in lines if re.match(r"guard [a-z]", line.strip()))


@pytest.mark.parametrize("written", sorted(set(written_lines())))
def test_every_command_in_the_texts_parses(written: str) -> None:
    words = shlex.split(written.partition(": ")[2])[1:]
    known = dict(commands())
    path = next((" ".join(words[:many]) for many in (2, 1) if " ".join(words[:many]) in {*known, *COMMANDS}), None)
    assert path, "no such command"
    command = known.get(path)
    if command is not None and not isinstance(command, click.Group):
        with click.Context(command) as context:
            command.make_parser(context).parse_args(args=words[len(path.split()) :])


def test_no_command_file_decides_anything() -> None:
    """A command is parse, call, print: none is longer than 40 lines."""
    long = []
    for path in (ROOT / "guard/cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > 40:
                long.append(f"{path.name}:{node.name}")
    assert long == []
