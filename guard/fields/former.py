"""What the key of a row was before it changed: told by columns of the same table, or by a file. Pure but for the file.

What was sealed says itself whether a former key is right: a value opens under exactly one. So a text is read in every
way that a key can be written, and the reading that opens is the one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from io import StringIO
from itertools import product
from pathlib import Path
from uuid import UUID

from guard.canon import KeyPart, decimal_text, key_bytes
from guard.errors import ConfigError
from guard.shop.rows import Key

Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Former:
    """Gives the former key of a row: the values of `columns`, or what `by_key` has for the key it has now."""

    columns: tuple[str, ...] = ()
    by_key: Mapping[Texts, Texts] = field(default_factory=dict, repr=False)

    def of(self, key: Key, values: Sequence[object]) -> tuple[bytes, ...]:
        """Return the canonical keys a row may have had; none when nothing is known. `values`: those of `columns`."""
        parts = values if self.columns else self.by_key.get(tuple(map(_text, key)), ())
        return tuple(key_bytes(each) for each in product(*map(_readings, parts))) if parts else ()


def read_map(path: Path, parts: int, former: int) -> tuple[bytes, Mapping[Texts, Texts]]:
    """Read a CSV file of keys: first the `former` parts of the key a row had, then the `parts` of the one it has.

    A first line that begins with "old" is a heading. Returns the file's bytes too. Raises ConfigError naming the line.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    found: dict[Texts, Texts] = {}
    for number, line in enumerate(csv.reader(StringIO(text, newline=""), strict=True), 1):
        if not line or (number == 1 and line[0].strip().lower().startswith("old")):
            continue
        if len(line) != former + parts:
            raise ConfigError(
                f"{path}: line {number} has {len(line)} fields, not {former + parts}",
                hint=f"first the {former} of the former key, then the {parts} of the key a row has now",
            )
        for new in {tuple(map(_same, line[former:])), tuple(line[former:])}:
            if found.setdefault(new, tuple(line[:former])) != tuple(line[:former]):
                raise ConfigError(f"{path}: line {number} gives a second former key for a row that has one")
    if not found:
        raise ConfigError(f"{path} holds no keys")
    return raw, found


def _text(part: KeyPart) -> str:
    """Return a part of a key as a file has it."""
    match part:
        case bytes():
            return part.hex()
        case Decimal():
            return decimal_text(part)
        case _:
            return str(part)


def _same(text: str) -> str:
    """Return the one spelling of a UUID, whatever its letters; other texts as they are."""
    try:
        return str(UUID(text)) if len(text) == 36 else text  # with its hyphens
    except ValueError:
        return text


def _readings(value: object) -> tuple[KeyPart, ...]:
    """Return every key part that `value` can stand for; none for what is no key, NULL among it."""
    match value:
        case bool() | None:
            return ()
        case int() | UUID() | bytes():
            return (value,)
        case Decimal():
            return (value, int(value)) if value == value.to_integral_value() else (value,)
        case str():
            return tuple(dict.fromkeys(_of_text(value)))
        case _:
            return ()


def _of_text(text: str) -> Iterator[KeyPart]:
    yield text
    for read in (int, UUID, Decimal, bytes.fromhex):
        try:
            part = read(text)
        except (ValueError, InvalidOperation):
            continue
        if not isinstance(part, Decimal) or part.is_finite():
            yield part
