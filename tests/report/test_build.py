"""A report: the same facts give the same bytes, and none is built over a ledger that does not hold."""

import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from guard.errors import ConfigError, InterlockError, TamperedError, UnavailableError
from guard.events import Ending
from guard.report import Reports


def test_the_same_facts_give_the_same_bytes(good_story):
    first, second = good_story.reports().build(), good_story.reports().build()
    assert first.html == second.html
    assert first.sha256 == sha256(second.html).hexdigest()
    assert first.name == second.name


def test_one_entry_more_gives_another_report(good_story):
    before = good_story.reports().build()
    good_story.say("audit.heartbeat")
    after = good_story.reports().build()
    assert (before.html != after.html, before.name != after.name) == (True, True)


def test_entries_above_the_checkpoint_are_left_out(good_story):
    sources = good_story.reports()._sources
    note = good_story.note()
    before = Reports(replace(sources, checkpoint=lambda: note)).build()
    good_story.say("audit.heartbeat")
    assert Reports(replace(sources, checkpoint=lambda: note)).build().html == before.html


def test_a_ledger_that_does_not_verify_gives_no_report(good_story):
    def tampered():
        raise TamperedError("entry 3 is not what was written")

    with pytest.raises(TamperedError, match="entry 3"):
        Reports(replace(good_story.reports()._sources, inspect=tampered)).build()


def test_a_checkpoint_of_another_key_gives_no_report(good_story):
    note = good_story.note().replace(good_story.note()[-10:-4], "AAAAAA")
    with pytest.raises(TamperedError):
        Reports(replace(good_story.reports()._sources, checkpoint=lambda: note)).build()


def test_missing_entries_give_no_report(good_story):
    sources = good_story.reports()._sources
    with pytest.raises(TamperedError, match="entries"):
        Reports(replace(sources, entries=lambda: iter(good_story.entries[:-1]))).build()


def test_an_empty_period_is_refused(good_story):
    with pytest.raises(ConfigError, match="empty"):
        good_story.reports().build(since=good_story.now, until=good_story.now)
    with pytest.raises(ConfigError, match="no entry in this period"):
        good_story.reports().build(until=good_story.entries[0].at)
    with pytest.raises(ConfigError, match="no entry in this period"):
        good_story.reports().build(since=good_story.now + timedelta(days=1))


def test_an_end_in_the_past_leaves_later_entries_out(good_story):
    border = good_story.now
    good_story.wait(timedelta(hours=1))
    good_story.do("keys.rotate", "index/4/email")
    assert "index/4/email" in good_story.text()
    assert "index/4/email" not in good_story.text(until=border + timedelta(minutes=1))


def test_a_report_is_written_under_its_name_or_another(good_story, tmp_path):
    reports = good_story.reports()
    report, mine = reports.build(), tmp_path / "new" / "mine.html"
    assert reports.write(report, tmp_path).name == report.name
    assert reports.write(report, tmp_path / "reports", folder=True) == tmp_path / "reports" / report.name
    assert reports.write(report, mine).read_bytes() == report.html
    assert reports.write(report, mine) == mine  # its own kind may be replaced
    assert not list(tmp_path.rglob("*.new"))


def test_a_file_that_is_no_report_is_never_overwritten(good_story, tmp_path):
    path = tmp_path / "shop.db"
    path.write_bytes(b"SQLite format 3")
    with pytest.raises(InterlockError, match=r"shop\.db"):
        good_story.reports().write(good_story.reports().build(), path)
    assert path.read_bytes() == b"SQLite format 3"


def test_a_folder_that_cannot_be_written_says_so(good_story, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnavailableError, match="cannot write"):
        good_story.reports().write(good_story.reports().build(), tmp_path / "file" / "report.html")


class _Blocks(HTMLParser):
    """Collects the texts of <pre>."""

    def __init__(self):
        super().__init__()
        self.found, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag == "pre":
            self.inside = True
            self.found.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data):
        if self.inside:
            self.found[-1] += data


def test_the_printed_commands_check_the_signature_without_guard(good_story, tmp_path):
    if not (shutil.which("openssl") and shutil.which("base64")):
        pytest.skip("openssl and coreutils are not installed")
    blocks = _Blocks()
    blocks.feed(good_story.text())
    note, commands = blocks.found
    (tmp_path / "note").write_text(note)
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "Signature Verified Successfully"), done.stderr
    size = len(good_story.entries)
    (tmp_path / "note").write_text(note.replace(f"\n{size}\n", f"\n{size - 1}\n"))
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0


# What retention left --------------------------------------------------------------------------------------------------


@pytest.fixture
def pruned_story(good_story):
    """The good story with its first half removed, but for a block that holds all the acts in it."""
    before = good_story.reports().build()
    for _ in range(100):
        good_story.say("audit.heartbeat")
    good_story.before = before
    return good_story


def test_a_report_over_what_retention_left_says_from_when_on_it_knows_all(pruned_story):
    size = len(pruned_story.entries)
    whole = pruned_story.reports().build()
    pruned_story.prune(size - 40, range(size - 100))
    report = pruned_story.reports().build()
    at = pruned_story.entries[-40].at
    page = report.html.decode()
    assert report.size == size
    assert {verdict.control.id: verdict.result for verdict in report.verdicts}["ledger"].value == "satisfied"
    assert f"all entries from #{size - 40}" in page
    assert at.isoformat() in page
    for verdict, then in zip(report.verdicts, whole.verdicts, strict=True):
        if verdict.control.id in {"encryption", "access", "breach"}:
            assert verdict.result is then.result


def test_acts_that_lost_their_end_are_not_called_broken(pruned_story):
    pruned_story.say("backup.run", Ending.BEGUN)
    begun = pruned_story.entries[-1].n
    pruned_story.say("backup.run", Ending.DONE)
    for _ in range(20):
        pruned_story.say("audit.heartbeat")
    pruned_story.prune(begun + 10, range(begun + 1))
    assert f"#{begun}<" not in pruned_story.text()


def test_what_is_missing_above_the_minimum_gives_no_report(pruned_story):
    size = len(pruned_story.entries)
    pruned_story.prune(size - 40, range(0))
    del pruned_story.entries[-5]
    with pytest.raises(TamperedError, match="entries, but its checkpoint signs"):
        pruned_story.reports().build()


def test_the_entries_a_report_needs_however_old_they_are(good_story):
    from guard.report import standing
    from guard.report.evidence import matches

    numbers = standing(lambda name: [entry for entry in good_story.entries if matches(entry.what, (name,))])
    whole = good_story.reports().build()
    for _ in range(30):
        good_story.say("audit.heartbeat")
    kept = [entry for entry in good_story.entries if entry.n in numbers]
    assert 0 < len(kept) < len(good_story.entries) - 30
    last = good_story.entries[-1].n
    good_story.removed = len(good_story.entries) - len(kept) - 10
    good_story.entries = [*kept, *good_story.entries[-10:]]
    good_story.minimum = last - 9
    left = good_story.reports().build()
    for verdict, then in zip(left.verdicts, whole.verdicts, strict=True):
        if verdict.control.id in {"encryption", "access", "breach"}:
            assert verdict.result is then.result, verdict.control.id


def test_no_entries_need_to_stay_where_nothing_stands():
    from guard.report import standing

    assert standing(lambda name: []) == frozenset()
