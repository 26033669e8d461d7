"""What pip makes of the tree: a wheel, and an editable install, each with its policies, runbooks and templates.

pip fetches the pinned build backend and nothing else: what guard depends on comes from the environment of the tests.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[1]
PARTS = ("guard", "policies", "runbooks", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml")
NOT_CODE = sorted(
    [
        *(f"guard/policies/{path.name}" for path in (ROOT / "policies").iterdir()),
        *(f"guard/runbooks/{path.name}" for path in (ROOT / "runbooks").iterdir()),
        *(f"guard/report/templates/{path.name}" for path in (ROOT / "guard/report/templates").iterdir()),
        *(f"guard/demo/{path.name}" for path in (ROOT / "guard/demo").glob("*.toml")),
        "guard/audit/shipped/README",
        "guard/py.typed",
    ]
)
SET_UP = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import guard
from guard.access import code_at
from guard.actions.setup import Answers, set_up
from guard.clock import SteppedClock

clock = SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))

def enrol(enrolment):
    first = code_at(enrolment.secret_text, clock.now())
    clock.step(timedelta(seconds=30))
    return first, code_at(enrolment.secret_text, clock.now())

made = set_up(Path(sys.argv[1]), Answers("Shop", "sqlite:///shop.db", "Ada", "ada"), clock, enrol)
made.app.close()
print(Path(guard.__file__).parent)
"""


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what pip reads, symlinks as they are."""
    tree = tmp_path_factory.mktemp("tree")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, tree / name)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, tree, cwd=folder)
    (made,) = folder.iterdir()
    return made


def fresh_venv(folder: Path) -> Path:
    """Return the Python of a new environment that sees what guard depends on, but not guard."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    seen = Path(sysconfig.get_path("purelib"))
    others = folder / "others"
    others.mkdir()
    for path in seen.iterdir():
        if not re.match(r"_?(guard|editable).*|__pycache__$|pip(-.*)?$|.*\.pth$", path.name):
            (others / path.name).symlink_to(path)
    (packages / "others.pth").write_text(f"{others}\n")
    return folder / "bin/python"


def sets_up(python: Path, home: Path) -> Path:
    """Set guard up in `home` with `python`'s guard, read it back, and return where that guard lies."""
    place = run(python, "-c", SET_UP, home, cwd=home.parent).strip()
    for name in ("policies", "runbooks"):
        assert sorted(path.name for path in (home / name).iterdir()) == sorted(
            path.name for path in (ROOT / name).iterdir()
        )
    run(python.with_name("guard"), "config", "check", cwd=home)
    return Path(place)


def test_a_wheel_holds_all_that_is_not_code(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as found:
        names = [name for name in found.namelist() if name.startswith("guard/") and not name.endswith(".py")]
        assert sorted(names) == NOT_CODE
        assert found.read("guard/policies/access.toml") == (ROOT / "policies/access.toml").read_bytes()


def test_guard_from_a_wheel_sets_up_a_shop(wheel: Path, tmp_path: Path) -> None:
    python = fresh_venv(tmp_path / "venv")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    assert (tmp_path / "venv") in sets_up(python, tmp_path / "shop").parents


def test_guard_from_an_editable_install_sets_up_a_shop(tree: Path, tmp_path: Path) -> None:
    python = fresh_venv(tmp_path / "venv")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", tree, cwd=tmp_path)
    assert sets_up(python, tmp_path / "shop") == tree / "guard"
