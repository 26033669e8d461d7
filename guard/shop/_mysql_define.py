"""A column's definition as SHOW CREATE TABLE tells it, taken apart and put together again word for word."""

import re
from dataclasses import dataclass

_PIECE = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`|/\*.*?\*/|.", re.DOTALL)
_PARTS = re.compile(
    r"(?P<type>\w+(?:\((?:[^()']|'(?:[^'\\]|\\.|'')*')*\))?(?: unsigned| signed| zerofill)*)"
    r"(?P<packed> /\*M?!\d+ COMPRESSED[^*]*\*/)?"
    r"(?: CHARACTER SET (?P<charset>\w+))?(?: COLLATE (?P<collation>\w+))?(?P<rest>.*)",
    re.DOTALL,
)
_ON_UPDATE = re.compile(r" ON UPDATE current_timestamp\(\d*\)", re.IGNORECASE)
_SIZES = {"tinytext": 255, "text": 65535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1,
          "tinyblob": 255, "blob": 65535, "mediumblob": 2**24 - 1, "longblob": 2**32 - 1}  # fmt: skip
"""Bytes each type takes."""
_VARCHAR_BYTES = 65000
"""A row takes 65535 bytes in all; its longest VARCHAR less."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A column's type, character set and collation, and what stands behind them (NOT NULL, DEFAULT, COMMENT, CHECK)."""

    type: str
    packed: str
    charset: str | None
    collation: str | None
    rest: str

    @property
    def sql(self) -> str:
        """The definition as SQL."""
        charset = f" CHARACTER SET {self.charset}" if self.charset else ""
        collation = f" COLLATE {self.collation}" if self.collation else ""
        return f"{self.type}{self.packed}{charset}{collation}{self.rest}"

    @property
    def kind(self) -> str:
        """The type's first word."""
        return re.split(r"[( ]", self.type, maxsplit=1)[0].lower()

    @property
    def length(self) -> int:
        """How many characters (bytes, of a binary type) it takes; 0 where it is neither."""
        if (size := _SIZES.get(self.kind)) is not None:
            return size
        found = re.fullmatch(r"(?:var)?(?:char|binary)\((\d+)\)", self.type)
        return int(found[1]) if found else 0

    @property
    def is_text(self) -> bool:
        """Whether it is a text type."""
        return self.kind in {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}

    @property
    def is_binary(self) -> bool:
        """Whether it is a binary type."""
        return self.kind in {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}

    def fits(self, longest: int) -> bool:
        """Say whether a sealed value of `longest` fits as it is, compared byte by byte."""
        if self.length < longest or self.kind in {"char", "binary"} or "json_valid" in self.rest:
            return False
        return self.is_binary or str(self.collation).endswith("_bin")


def parse(create: str, column: str) -> Definition:
    """Return the definition of `column` in a statement of SHOW CREATE TABLE. Raises LookupError when it has none."""
    start = f"\n  `{column.replace('`', '``')}` "
    if (at := create.find(start)) < 0:
        raise LookupError(column)
    text, depth = "", 0
    for piece in _PIECE.findall(create, at + len(start)):
        depth += (piece == "(") - (piece == ")")
        if depth < 0 or (not depth and piece == ","):
            break
        text += piece
    if (found := _PARTS.fullmatch(text.rstrip("\n"))) is None:
        raise LookupError(column)
    return Definition(found["type"], found["packed"] or "", found["charset"], found["collation"], found["rest"])


def widened(now: Definition, column: str, longest: int, collation: str | None, *, blob: bool = False) -> str:
    """Return the definition in which a sealed value of `longest` fits. `collation` is a binary one of the texts' set.

    `blob`: as TEXT or BLOB, which take no room in the row.
    """
    longest = max(longest, now.length)
    rest = _ON_UPDATE.sub("", now.rest).replace(f" CHECK (json_valid(`{column.replace('`', '``')}`))", "")
    if now.is_binary:
        kind = _kind("varbinary", "blob", longest, blob=blob or now.kind in _SIZES)
        return f"{kind}{now.packed}{rest}"
    wide = blob or now.kind in _SIZES or longest * _width(now.charset) > _VARCHAR_BYTES
    kind = _kind("varchar", "text", longest, blob=wide)
    charset = now.charset or "ascii"
    return f"{kind}{now.packed} CHARACTER SET {charset} COLLATE {collation or f'{charset}_bin'}{rest}"


def _kind(short: str, long: str, longest: int, *, blob: bool) -> str:
    if not blob:
        return f"{short}({longest})"
    return next(name for name in (long, f"medium{long}", f"long{long}") if longest <= _SIZES[name])


def _width(charset: str | None) -> int:
    """Return the most bytes a character takes, at least."""
    return 1 if charset in {None, "ascii", "latin1", "binary"} else 4
