"""What messages, policies and papers tell a person to type is there to be typed."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from guard.cli.main import main

ROOT = Path(__file__).parents[2]
TOLD = re.compile(r"(?:`|hint=f?\"(?:run )?|remedy=\")guard ((?:--[a-z-]+ )*[a-z]+(?: [a-z][a-z-]*)*)")
TEXTS = [
    *sorted((ROOT / "guard").rglob("*.py")),
    *sorted((ROOT / "policies").glob("*.toml")),
    *sorted((ROOT / "runbooks").glob("*.md")),
    ROOT / "README.md",
    ROOT / "docs" / "GRANTS.md",
    ROOT / "docs" / "THREAT_MODEL.md",
]


def told(text: str) -> Iterator[list[str]]:
    for found in TOLD.finditer(text):
        yield [word for word in found[1].split() if not word.startswith("--")]


def known(words: list[str]) -> bool:
    """Whether `words` walk through guard's groups to a command; what follows it are arguments."""
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group):
            return True
        found = command.get_command(click.Context(command), word)
        if found is None:
            return False
        command = found
    return True


def test_the_search_finds_what_is_not_there() -> None:
    text = '`guard state mend`, hint="run guard keys list", `guard --json retention plan`'
    assert [known(words) for words in told(text)] == [False, True, True]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_a_text_names_exists(path: Path) -> None:
    missing = [words for words in told(path.read_text(encoding="utf-8")) if not known(words)]
    assert missing == []
