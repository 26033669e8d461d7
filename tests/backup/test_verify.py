"""Whatever happens to a stored byte or object is found, and no restore writes a wrong byte."""

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.backup.erasures import Effect, Register
from guard.backup.marks import mark
from guard.backup.repository import Repository
from guard.backup.verify import Finding, Looking, verify
from guard.crypto import recovery
from guard.errors import GuardError, UnavailableError

CONTENT = {"a": b"alpha" * 300, "b": os.urandom(5000), "c": b""}
keep_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture
def whole(bench, made_up):
    """A minimal repository with one of each object."""
    bench.store.objects.clear()
    bench.found(recovery_public=recovery.new_kit().public)
    Register(bench.open()).append([Effect(effect="erase", table="Customer", key="016900000001")], bench.clock.now())
    made = bench.run(made_up(**CONTENT))
    mark(bench.open(), [b"p" * 32])
    bench.expected = [made.id]
    return bench


def found(bench) -> list[str]:
    """What verify --data says; opening the repository counts."""
    try:
        repository = bench.open()
    except GuardError as error:
        return [str(error)]
    return [each.object for each in verify(repository, Looking(data=True, expected=bench.expected)).findings]


def restores_right_or_not_at_all(bench, to: Path) -> None:
    with suppress(GuardError):
        bench.restore(to, overwrite=True)
    for path in (to / "made").glob("*") if to.exists() else ():
        assert path.read_bytes() == CONTENT[path.name]


def test_a_sound_repository_has_no_findings(whole) -> None:
    done = verify(whole.open(), Looking(data=True, expected=whole.expected))
    assert done.is_sound
    assert (done.snapshots, done.files, done.packs, done.orphans, done.late) == (1, 3, 1, 0, ())
    assert done.bytes == sum(len(raw) for name, (raw, _) in whole.store.objects.items() if name.startswith("packs/"))
    assert {name.partition("/")[0] for name in whole.store.objects} == {
        "config", "keys", "packs", "index", "snapshots", "marks", "erasures",
    }  # fmt: skip


@keep_fixtures
@given(data=st.data())
def test_any_flipped_byte_is_found_and_never_restored(whole, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(whole.store.objects)))
    raw, at = whole.store.objects[name]
    here = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:here] + bytes([raw[here] ^ data.draw(st.integers(1, 255))]) + raw[here + 1 :]
    before = dict(whole.store.objects)
    try:
        whole.store.objects[name] = (changed, at)
        assert found(whole), f"{name} byte {here}"
        restores_right_or_not_at_all(whole, tmp_path / "out")
    finally:
        whole.store.objects = before


@keep_fixtures
@given(data=st.data())
def test_any_truncated_object_is_found(whole, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(whole.store.objects)))
    raw, at = whole.store.objects[name]
    before = dict(whole.store.objects)
    try:
        whole.store.objects[name] = (raw[: data.draw(st.integers(0, len(raw) - 1))], at)
        assert found(whole)
        restores_right_or_not_at_all(whole, tmp_path / "out")
    finally:
        whole.store.objects = before


@pytest.mark.parametrize("folder", ["config", "keys", "packs", "index", "snapshots", "erasures"])
def test_any_missing_object_is_found_and_named(whole, tmp_path: Path, folder: str) -> None:
    (name,) = [name for name in whole.store.objects if name.startswith(folder)]
    whole.store.delete(name)
    said = " ".join(found(whole))
    assert said
    if folder in {"keys", "packs", "snapshots"}:
        assert name in said
    restores_right_or_not_at_all(whole, tmp_path / "out")


@pytest.mark.parametrize("folder", ["packs", "index", "snapshots"])
def test_an_object_under_anothers_name_is_found(whole, made_up, folder: str) -> None:
    whole.run(made_up(other=b"x" * 100))
    first, second = [name for name in whole.store.objects if name.startswith(folder)]
    whole.store.objects[first] = whole.store.objects[second]
    assert first in found(whole)


def test_the_structure_alone_tells_a_missing_pack_and_one_of_another_length(whole) -> None:
    (name,) = whole.open().names("packs")
    raw, at = whole.store.objects[name]
    for other in (raw[:-1], raw[:-400], raw + b"x"):  # one byte off the footer, too
        whole.store.objects[name] = (other, at)
        said = Finding(name, f"is {len(other)} bytes long, not {len(raw)}")
        assert said in verify(whole.open(), Looking()).findings
    whole.store.delete(name)
    assert Finding(name, "is missing") in verify(whole.open(), Looking()).findings


def test_a_store_that_cannot_be_looked_at_is_no_clean_result(whole, failing) -> None:
    for nth in range(1, 12):
        with pytest.raises(UnavailableError):
            verify(Repository.open(failing(whole.store, nth), {1: bytes(range(32))}), Looking(data=True))


def test_late_snapshots_and_left_packs_are_told_but_no_damage(whole, made_up) -> None:
    whole.run(made_up(b=b"left over"))
    for name in list(whole.store.objects):
        raw, at = whole.store.objects[name]
        if name.startswith("snapshots/"):
            whole.store.objects[name] = (raw, at + timedelta(days=3))
    done = verify(whole.open(), Looking(data=True))
    assert done.is_sound
    assert len(done.late) == 2


def test_a_foreign_file_among_the_packs_is_named(whole) -> None:
    whole.store.put_if_absent("packs/readme", b"hello")
    assert found(whole) == ["packs/readme"]
