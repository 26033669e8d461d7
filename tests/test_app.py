"""How the app finds databases from its folder."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from guard.app import App
from guard.clock import SteppedClock
from guard.config import Settings
from guard.config.settings import ShopSettings


def app(home: Path, clock: SteppedClock) -> App:
    return App(home, Settings(name="Music", shop=ShopSettings(url="sqlite:///shop.db")), clock)


@pytest.mark.parametrize("name", ["a b", "a%20b", "100%", "why?", "a#b", "a@b:c", "Bücher", "a+b"])
@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
def test_a_relative_path_starts_at_the_folder_whatever_its_name(clock: SteppedClock, name: str, scheme: str) -> None:
    home = Path("/srv") / name
    assert make_url(app(home, clock).url(f"{scheme}:///var/state.db")).database == str(home / "var/state.db")


@pytest.mark.parametrize("url", ["sqlite:////srv/a%20b.db", "postgresql://shop@/shop?host=/run/pg", "sqlite://"])
def test_other_urls_stay_as_they_are(clock: SteppedClock, url: str) -> None:
    assert app(Path("/srv/guard"), clock).url(url) == url
