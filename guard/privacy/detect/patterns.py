"""Recognizers of our own: patterns with ASCII borders, each checked by a validator where a number has one.

`\\b` counts Han characters as letters, so it misses a card number between them; these borders do not.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import ModuleType
from typing import Final

phonenumbers: ModuleType | None
try:
    import phonenumbers
except ImportError:  # the extra "detect" is not installed; `missing` says so
    phonenumbers = None
stdnum: ModuleType | None
try:
    import stdnum
    from stdnum import iban as _iban
    from stdnum import luhn as _luhn
    from stdnum.cn import ric as _ric
    from stdnum.de import vat as _vat
except ImportError:
    stdnum = None

REGIONS: Final = ("DE", "US", "GB", "CN", "FR", "AT", "CH")
"""Whose national phone formats are tried for a number without a country code."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Personal data in a text: which category, where, how sure (0 to 1), and who says so."""

    category: str
    start: int
    end: int
    score: float
    by: str = "pattern"


@dataclass(frozen=True, slots=True)
class _Recognizer:
    category: str
    pattern: re.Pattern[str]
    score: Callable[[str], float]
    """How sure a match is; 0 refuses it."""


def _border(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9A-Za-z])(?:{pattern})(?![0-9A-Za-z])", flags | re.ASCII)


def _sure(score: float) -> Callable[[str], float]:
    return lambda _: score


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def _card_score(text: str) -> float:
    digits = _digits(text)
    if not 12 <= len(digits) <= 19 or len(set(digits)) == 1 or not _luhn.is_valid(digits):
        return 0.0
    return 0.9 if len(digits) > 12 else 0.6  # one number in ten passes by chance, and twelve digits are many things


def _iban_score(text: str) -> float:
    return 1.0 if _iban.is_valid(text, check_country=False) else 0.0


def _resident_score(text: str) -> float:
    return 1.0 if _ric.is_valid(text) else 0.0


def _vat_score(text: str) -> float:
    return 0.9 if _vat.is_valid(text) else 0.0


def _ip_score(text: str) -> float:
    try:
        ip_address(text)
    except ValueError:
        return 0.0
    return 0.8


def _phone_score(text: str) -> float:
    """Score a number: with country code or Chinese mobile most, plain digits of no known format not at all."""
    assert phonenumbers is not None  # noqa: S101  # only listed below when it is
    digits = _digits(text)
    if not 7 <= len(digits) <= 16:
        return 0.0
    written = bool(re.search(r"[\s().\-/]", text))
    for region in (None,) if text.startswith("+") else REGIONS:
        try:
            number = phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return 0.9 if region is None else 0.7 if written else 0.4
        if region is None and phonenumbers.is_possible_number(number):
            return 0.6
    return 0.0


_EMAIL: Final = _Recognizer(
    "email",
    re.compile(
        r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9_][A-Za-z0-9._%+'\-]{0,63}@(?:[A-Za-z0-9\u00c0-\u024f-]{1,63}\.){1,8}"
        r"[A-Za-z]{2,24}(?![A-Za-z0-9])"
    ),
    _sure(1.0),
)
_IP: Final = _Recognizer(
    "ip_address",
    _border(r"(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\.\d)|(?=[^\s]*:[^\s]*:)[0-9A-Fa-f:]{2,39}(?:\.\d{1,3}){0,3}"),
    _ip_score,
)
_CN_MOBILE: Final = _Recognizer("phone", _border(r"(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}"), _sure(0.7))
_CHECKED: Final = (
    _Recognizer("national_id", _border(r"[1-9]\d{5}(?:18|19|20)\d\d[01]\d[0-3]\d{4}[\dXx]"), _resident_score),
    _Recognizer(
        "bank_account",
        _border(r"[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?", re.IGNORECASE),
        _iban_score,
    ),
    _Recognizer("tax_id", _border(r"DE ?\d{9}"), _vat_score),
    _Recognizer(
        "card",
        _border(r"(?:4|5[0-8]|2[2-7]|2131|1800|3[0-8]|6)\d*(?:[ \-]?\d){9,18}"),
        _card_score,
    ),
)
_PHONE: Final = _Recognizer("phone", _border(r"(?<![-_#])(?:\+|\(|\d)[\d\s().\-/]{5,22}\d"), _phone_score)
_STREET: Final = _Recognizer(
    "address",
    re.compile(
        r"(?i)(?:[a-zäöüß]{3,}(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer)|\b(?:straße|strasse|rue|via|calle))"
        r"\s[^\d\n]{0,30}\d{1,4}\s?[a-z]?\b"
        r"|\b\d{1,5}\s(?:[a-z'.]+\s){1,4}(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|way|court|ct|square|sq)\b"
        r"|[\u4e00-\u9fff]{2,}(?:路|街|道|巷|弄)\s?\d{1,5}\s?(?:号|弄)"
    ),
    _sure(0.6),
)
_DATE: Final = re.compile(
    r"\b\d{4}[-/.]\d\d?[-/.]\d\d?(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?|\b\d\d?[./-]\d\d?[./-](?:\d{4}|\d\d)\b"
)


def missing() -> tuple[str, ...]:
    """Return the libraries of the extra `detect` without which some recognizers here cannot look."""
    found = (("phonenumbers", phonenumbers), ("python-stdnum", stdnum))
    return tuple(name for name, module in found if module is None)


def find(text: str) -> list[Hit]:
    """Return the personal data in `text`; of overlapping matches the surer one, then the longer one.

    Recognizers whose library is `missing` do not look.
    """
    hits = [hit for recognizer in _recognizers() for hit in _matches(recognizer, text)]
    return _distinct(hits, [match.span() for match in _DATE.finditer(text)])


def _recognizers() -> Iterable[_Recognizer]:
    yield from (_EMAIL, _IP, _CN_MOBILE, _STREET)
    if stdnum is not None:
        yield from _CHECKED
    if phonenumbers is not None:
        yield _PHONE


def _matches(recognizer: _Recognizer, text: str) -> Iterable[Hit]:
    for match in recognizer.pattern.finditer(text):
        if (score := recognizer.score(match.group())) > 0:
            yield Hit(recognizer.category, match.start(), match.end(), score)


def _distinct(hits: Iterable[Hit], dates: Sequence[tuple[int, int]]) -> list[Hit]:
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda each: (-each.score, each.start - each.end)):
        if hit.category == "phone" and any(hit.start < end and start < hit.end for start, end in dates):
            continue  # "2013-07-04 00" would pass as a number of New Jersey
        if all(hit.end <= other.start or other.end <= hit.start for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda each: each.start)
