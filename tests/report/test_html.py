"""The page: no script, nothing from outside, hostile names harmless, every line tied to entries that are on it."""

import re
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.events import Ending
from guard.report.html import ranges, span, visible

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Reads a page strictly: what is opened must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attrs, self.ids, self.links, self.text = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [(tag, *each) for each in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "title"}:
            self.text.append(data)

    def shown(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture
def page(good_story):
    good_story.refuse("fields.decrypt")
    good_story.do("backup.run", ending=Ending.FAILED, facts={"error": "OSError"})
    return Page(good_story.text())


def test_it_is_one_page_that_parses(page):
    assert page.tags.count("html") == page.tags.count("main") == page.tags.count("h1") == 1
    assert ("html", "lang", "en") in page.attrs


def test_it_has_no_script_and_nothing_from_outside(page, good_story):
    assert not {"script", "iframe", "object", "embed", "link", "img", "form", "base"} & set(page.tags)
    assert [link for link in page.links if not link.startswith("#")] == []
    assert [attr for attr in page.attrs if attr[1].startswith("on") or attr[1] == "style"] == []
    assert not re.search(r"url\(|@import|javascript:", good_story.text())


def test_it_forbids_everything_but_its_own_style(page):
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attrs


def test_each_header_says_its_scope(page):
    scopes = [attr for attr in page.attrs if attr[0] == "th" and attr[1] == "scope"]
    assert len(scopes) == page.tags.count("th")


def test_no_id_is_given_twice(page):
    assert len(page.ids) == len(set(page.ids))


def test_each_link_leads_somewhere(page):
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_each_claim_that_is_judged_links_to_entries(good_story):
    text = good_story.text()
    for card in re.findall(r"<article.*?</article>", text, re.DOTALL):
        assert ("not evaluated" in card) is (re.search(r'href="#e\d+"', card) is None)


def test_what_was_not_carried_out_and_what_was_refused_is_shown(page):
    assert "Not carried out in full" in page.shown()
    assert "Attempts that were not let through: 1" in page.shown()


HOSTILE = '<script>alert("x")</script><b onmouseover=alert(1)>&amp;"\'>{{ 7 * 7 }}{% raw %}'


def test_hostile_names_stay_text(good_story, add_column):
    good_story.shop = HOSTILE
    add_column(f"{HOSTILE.replace('.', '')}.c")
    good_story.do("fields.encrypt", HOSTILE, who=HOSTILE, facts={HOSTILE: HOSTILE}, counts={HOSTILE: 1})
    good_story.say(HOSTILE, Ending.FAILED, HOSTILE, digests={HOSTILE: HOSTILE})
    page = Page(good_story.text())
    assert not {"script", "b"} & set(page.tags)
    assert [attr for attr in page.attrs if attr[1].startswith("on")] == []
    assert '<script>alert("x")</script>' in page.shown()
    assert "{{ 7 * 7 }}" in page.shown()


def test_characters_that_turn_text_around_are_written_out(good_story):
    good_story.do("backup.run", "safe\u202egnp.exe", "bell\x07", "lone\ud800")
    shown = Page(good_story.text()).shown()
    assert "safe\\u202egnp.exe" in shown
    assert "bell\\u0007" in shown
    assert "lone\\ud800" in shown


def test_a_demo_says_so_and_a_shop_does_not(good_story):
    assert "DEMO" not in good_story.text()
    good_story.demo = True
    assert "DEMO: this shop and everybody in it are made up" in Page(good_story.text()).shown()


def test_an_empty_catalog_and_a_short_ledger_make_a_page(story):
    story.columns = []
    story.say("init", Ending.DONE, who="guard")
    shown = Page(story.text()).shown()
    assert "The catalog is empty" in shown
    assert "✓ satisfied: 1" in shown  # the record itself; all else is not evaluated


def test_a_report_under_way_is_not_shown_as_broken(good_story):
    good_story.say("report.build", Ending.BEGUN)
    assert "Not carried out in full" not in good_story.text()


def test_a_run_that_was_killed_is_shown_by_what_became_of_it(good_story):
    good_story.say("fields.encrypt", Ending.BEGUN)
    good_story.say("fields.encrypt", Ending.RESOLVED, facts={"was": "partly"})
    assert "Not carried out in full" in good_story.text()


def test_contrast_is_at_least_four_and_a_half_to_one(good_story):
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", good_story.text()))

    def light(color):
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    papers = {"bad": "bad-paper", "open": "open-paper", "good": "good-paper", "ink": "bad-paper", "soft": "shade"}
    pairs = [(colors[ink], colors[paper]) for ink, paper in papers.items()]
    pairs += [(colors[ink], colors["paper"]) for ink in ("ink", "soft", "link", "bad", "open", "good")]
    pairs += [("#ffffff", "#5b1e86"), (colors["link"], "#fff3b0"), (colors["soft"], "#fff3b0")]
    for ink, paper in pairs:
        dark, bright = sorted([light(ink), light(paper)])
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


@given(st.sets(st.integers(0, 60)))
def test_ranges_hold_exactly_their_numbers(numbers):
    found = ranges(numbers)
    assert {n for first, last in found for n in range(first, last + 1)} == numbers
    assert all(b[0] > a[1] + 1 for a, b in pairwise(found))


@given(st.text())
def test_what_is_shown_can_be_seen_and_written(text):
    shown = visible(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode()


def test_spans_are_told_in_words():
    assert span(timedelta(days=2, hours=3, seconds=59)) == "2 d 3 h 0 min"
    assert span(-timedelta(minutes=61)) == "1 h 1 min"
