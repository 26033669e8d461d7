"""A printed share: what is on it, that it loads nothing, and that guard reads it back."""

import re
import stat
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pytest

from guard.crypto import recovery, sheet
from guard.crypto.sheet import Owner
from guard.errors import InterlockError

KIT = recovery.new_kit()
OWNER = Owner('Bäckerei <b>&"Süß"', UUID(int=7), datetime(2026, 1, 5, 9, tzinfo=UTC))


class Reader(HTMLParser):
    """Collects text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.asked: list[str] = []

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [f"{tag} {name}={value}" for name, value in attrs if name in {"src", "href", "action", "srcset"}]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_a_sheet_says_whose_it_is_and_loads_nothing() -> None:
    page = sheet.page(KIT.id, 2, KIT.shares[1], OWNER)
    reader = read(page)
    text = "".join(reader.text)
    for expected in ("Recovery share 2 of 3", KIT.id, 'Bäckerei <b>&"Süß"', str(UUID(int=7)), "2026-01-05 09:00 UTC"):
        assert expected in text
    assert reader.asked == []
    assert "url(" not in page
    assert KIT.shares[0] not in page


def test_guard_reads_the_shares_back_from_the_sheets(tmp_path: Path) -> None:
    paths = sheet.write_sheets(KIT, tmp_path, OWNER)
    assert [path.name for path in paths] == [f"guard-share-{KIT.id}-{number}.html" for number in (1, 2, 3)]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    assert tuple(map(recovery.read_share_file, paths)) == KIT.shares
    with pytest.raises(InterlockError, match="is not overwritten"):
        sheet.write_sheets(KIT, tmp_path, OWNER)


def test_the_square_is_of_the_share_and_of_no_other() -> None:
    squares = [re.findall(r'd="([^"]+)"', sheet.page(KIT.id, 1, share, OWNER)) for share in KIT.shares]
    assert len({tuple(each) for each in squares}) == 3
    again = re.findall(r'd="([^"]+)"', sheet.page(KIT.id, 3, KIT.shares[0], OWNER))
    assert again == squares[0]
