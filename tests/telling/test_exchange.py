"""Files that a command of another OS user names: nothing of guard's own, whatever they try."""

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from guard.cli import served
from guard.cli._exchange import NEEDED, READ, Exchange, confine
from guard.cli._remote import LOCAL, LOCAL_OPTIONS
from guard.cli.main import COMMANDS
from guard.errors import ConfigError, InterlockError

SECRET = b"the root key"


@pytest.fixture
def place(tmp_path: Path) -> Exchange:
    """The folder, with a subfolder that callers may write to, beside guard's own."""
    (tmp_path / "guard/keys").mkdir(parents=True, mode=0o700)
    (tmp_path / "guard/keys/root.key").write_bytes(SECRET)
    (tmp_path / "exchange/in").mkdir(parents=True)
    (tmp_path / "exchange").chmod(0o755)
    (tmp_path / "exchange/in").chmod(0o777)
    return Exchange(tmp_path / "exchange", tmp_path / "guard", str(tmp_path / "exchange"))


def at(place: Exchange, name: str = "") -> Path:
    assert place.folder is not None
    return place.folder / name


def read(place: Exchange, path: str) -> bytes:
    return Path(place.to_read(path)).read_bytes()


def test_a_file_below_it_is_read_by_its_name_or_its_whole_path(place: Exchange) -> None:
    at(place, "in/map.csv").write_bytes(b"1,2")
    assert read(place, "in/map.csv") == b"1,2"
    assert read(place, str(at(place, "in/map.csv"))) == b"1,2"
    assert read(place, "./in//map.csv") == b"1,2"
    assert read(Exchange(at(place), at(place).parent / "guard", str(at(place, "in"))), "../in/map.csv") == b"1,2"
    with pytest.raises(ConfigError, match="does not lie below"):
        Exchange(at(place), at(place).parent / "guard").to_read("in/map.csv")


def test_the_folder_may_be_called_by_a_link_of_the_administrators(place: Exchange) -> None:
    at(place, "in/map.csv").write_bytes(b"1,2")
    link = at(place).parent / "link"
    link.symlink_to(at(place))
    linked = Exchange(link, at(place).parent / "guard")
    assert read(linked, f"{link}/in/map.csv") == read(linked, str(at(place, "in/map.csv"))) == b"1,2"


def test_a_file_is_written_below_folders_of_the_agents_alone(place: Exchange) -> None:
    assert place.to_write("report.html") == str(at(place, "report.html"))
    assert place.to_write(str(at(place, "new/er/report.html"))) == str(at(place, "new/er/report.html"))
    at(place, "made").mkdir()
    assert place.to_write("made") == str(at(place, "made"))
    at(place, "made/old.html").write_text("")
    assert place.to_write("made/old.html") == str(at(place, "made/old.html"))


def tricks(place: Exchange) -> Iterator[str]:
    """Ways out, each made where callers may write."""
    key, inside = at(place).parent / "guard/keys/root.key", at(place, "in")
    yield str(key)
    yield "../guard/keys/root.key"
    yield "in/../../guard/keys/root.key"
    yield f"{at(place)}/../guard/keys/root.key"
    yield f"{at(place)}-other/file"
    (inside / "file").symlink_to(key)
    yield "in/file"
    (inside / "relative").symlink_to("../../guard/keys/root.key")
    yield "in/relative"
    (inside / "folder").symlink_to(key.parent)
    yield "in/folder/root.key"
    (inside / "proc").symlink_to("/proc/self/fd")
    yield "in/proc/0"
    yield from ("/proc/self/fd/0", "/proc/self/root/etc/passwd", "/dev/stdin", "/dev/tty", "//etc/passwd", "~/x", "-")
    os.link(key, inside / "hard")
    yield "in/hard"
    os.mkfifo(inside / "pipe")
    yield "in/pipe"
    (inside / "dangling").symlink_to(at(place).parent / "guard/keys/new.key")
    yield "in/dangling"


def test_no_path_leads_out_of_it(place: Exchange) -> None:
    tried = 0
    for path in tricks(place):
        tried += 1
        if path not in {"-", "~/x"}:  # names like others, of files that are not there
            for use in (place.to_read, place.to_write):
                with pytest.raises(ConfigError, match="the agent does not use"):
                    use(path)
    assert tried == 19
    assert (at(place).parent / "guard/keys/root.key").read_bytes() == SECRET


@pytest.mark.parametrize("path", ["", ".", "in", "in/nothing", "in/nothing/file", "nothing/in/file"])
def test_a_folder_or_nothing_is_not_read(place: Exchange, path: str) -> None:
    at(place, "in/file").write_text("another one")
    at(place, "file").write_text("another one")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ConfigError):
        place.to_read(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_nothing_is_written_where_others_may_put_links(place: Exchange, mode: int) -> None:
    at(place, "in").chmod(mode)
    with pytest.raises(ConfigError, match="nobody else may write"):
        place.to_write("in/report.html")
    with pytest.raises(ConfigError, match="nobody else may write"):
        place.to_write("in")
    at(place).chmod(mode)
    with pytest.raises(ConfigError, match="nobody else may write"):
        place.to_write("report.html")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nothing_of_others_is_written_over_and_theirs_is_read(place: Exchange) -> None:
    at(place, "theirs").write_bytes(b"theirs")
    at(place, "folder").mkdir()
    for name in ("theirs", "folder"):
        shutil.chown(at(place, name), "games")
        with pytest.raises(ConfigError, match="nobody else may write"):
            place.to_write(name)
    assert read(place, "theirs") == b"theirs"


def test_the_file_that_was_looked_at_is_the_file_that_is_read(place: Exchange) -> None:
    """A caller who exchanges it for a link after the look gains nothing."""
    given = at(place, "in/map.csv")
    given.write_bytes(b"1,2")
    path = place.to_read("in/map.csv")
    given.unlink()
    given.symlink_to(at(place).parent / "guard/keys/root.key")
    assert Path(path).read_bytes() == b"1,2"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    absent = Exchange(tmp_path / "exchange", tmp_path / "guard", str(tmp_path / "exchange"))
    for use in (absent.to_read, absent.to_write):
        with pytest.raises(ConfigError, match="the agent does not use"):
            use("file")


def test_without_a_folder_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no folder") as raised:
        Exchange(None, tmp_path).to_read("map.csv")
    assert "[agent] exchange" in (raised.value.hint or "")


@pytest.mark.parametrize("folder", ["guard", "guard/exchange", "", "link"])
def test_a_folder_that_is_not_apart_from_guards_own_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "guard")
    with pytest.raises(ConfigError, match="is not apart"):
        Exchange(tmp_path / folder, tmp_path / "guard")


# The commands ---------------------------------------------------------------------------------------------------------

WRITTEN = {
    ("access", "views"): {"out"},
    ("audit", "export"): {"tiles", "out"},
    ("audit", "prove"): {"out"},
    ("backup", "restore"): {"to"},
    ("keys", "export"): {"path"},
    ("keys", "recovery", "make"): {"folder"},
    ("report", "build"): {"out"},
}
"""Paths that are written to."""


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    def below(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield words, command
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                yield from below((*words, name), each)

    for name, (module, _) in COMMANDS.items():
        yield from below((name,), getattr(importlib.import_module(module), name.replace("-", "_")))


def is_local(words: tuple[str, ...]) -> bool:
    return any(words[:length] in LOCAL for length in range(1, 4))


def test_every_path_a_command_takes_is_known_as_read_or_written() -> None:
    """Whoever adds one decides: READ in guard/cli/_exchange.py, or WRITTEN here."""
    found: dict[tuple[str, ...], set[str]] = {}
    for words, command in commands():
        for param in command.params:
            assert not isinstance(param.type, click.File), words
            refused = LOCAL_OPTIONS.get(words, {})
            if isinstance(param.type, click.Path) and not is_local(words) and param.name not in refused:
                found.setdefault(words, set()).add(str(param.name))
    known = {words: READ.get(words, set()) | WRITTEN.get(words, set()) for words in {*READ, *WRITTEN}}
    assert {words: names for words, names in found.items() if names - known.get(words, set())} == {}


def test_every_table_names_what_there_is() -> None:
    there = dict(commands())
    for table in (READ, WRITTEN, NEEDED, LOCAL_OPTIONS):
        for words, names in table.items():
            assert set(names) <= {param.name for param in there[words].params}, words
    assert set(LOCAL) <= set(there)


def test_no_text_that_a_command_takes_sounds_like_a_path() -> None:
    """A path that is typed as a text would reach the command as it is."""
    sounds = ("file", "path", "folder", "dir", "out", "dest", "target", "source", "map", "output")
    for words, command in commands():
        for param in command.params:
            if isinstance(param.type, click.types.StringParamType) and not is_local(words):
                shown = f"{param.name} {getattr(param, 'metavar', '') or ''}".lower()
                doubtful = any(each in shown.replace("|", " ").split() for each in sounds)
                assert not doubtful or words == ("backup", "restore"), (words, param.name)


def test_confined_parameters_take_only_paths_below(place: Exchange) -> None:
    given: list[object] = []

    @click.command("ingest")
    @click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
    @click.option("--out", type=click.Path(path_type=str))
    def ingest(file: Path, out: str | None) -> None:
        given.append((file, out))

    confine(ingest, place, ("audit", "ingest"))
    at(place, "in/a.jsonl").write_text("{}")
    ingest.main(["in/a.jsonl", "--out", "b"], standalone_mode=False)
    ingest.main(["-"], standalone_mode=False)
    (file, out), dash = given[0], given[1]  # type: ignore[misc]
    assert (file.parts[:4], out) == (("/", "proc", "self", "fd"), str(at(place, "b")))
    assert dash == (Path("-"), None)
    with pytest.raises(ConfigError):
        ingest.main(["/etc/passwd"], standalone_mode=False)
    with pytest.raises(ConfigError):
        ingest.main(["-", "--out", "/etc/x"], standalone_mode=False)


def test_a_kind_of_file_that_cannot_be_confined_is_an_error(place: Exchange) -> None:
    with pytest.raises(TypeError, match=r"click\.File"):
        confine(click.Command("x", params=[click.Argument(["file"], type=click.File())]), place)


def test_what_the_agent_does_not_run_is_refused_wherever_it_stands(place: Exchange) -> None:
    """Every command and option of the tables, with its help and its arguments left out or wrong."""
    there = dict(commands())
    for words in LOCAL:
        narrowed = served._narrowed(words[:1], there[words[:1]])
        for argv in ([], ["--nonsense"], ["--help"], ["a", "--to", "/etc/passwd"]):
            with pytest.raises(InterlockError, match=f"does not run `guard {' '.join(words)}`"):
                narrowed.main([*words[1:], *argv], standalone_mode=False)
    for words, options in LOCAL_OPTIONS.items():
        for param in served._narrowed(words, there[words]).params:
            if param.name in options:
                assert param.callback is not None
                with click.Context(there[words]) as context, pytest.raises(InterlockError, match=param.opts[0]):
                    param.callback(context, param, True)
                assert param.callback(context, param, False) is False
                param.callback = None
