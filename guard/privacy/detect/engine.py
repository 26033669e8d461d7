"""Presidio's recognizers, without a language model. The only module that imports Presidio, and only when asked to look.

`NoOpNlpEngine` finds no names; what is left are patterns with validators, and words of the column's name as context.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from guard.privacy.detect.patterns import Hit

Find = Callable[[Sequence[str], Sequence[str]], list[list[Hit]]]
"""Values and the words of the column's name in, the hits of each value out."""

THRESHOLD: Final = 0.5
"""Below it lie the patterns that fit any number, unless the column's name speaks for them."""

_CATEGORIES: Final = {
    "CREDIT_CARD": "card",
    "CRYPTO": "bank_account",
    "DE_ID_CARD": "national_id",
    "DE_SOCIAL_SECURITY": "national_id",
    "DE_TAX_ID": "tax_id",
    "ES_NIE": "national_id",
    "ES_NIF": "national_id",
    "FI_PERSONAL_IDENTITY_CODE": "national_id",
    "IBAN_CODE": "bank_account",
    "IP_ADDRESS": "ip_address",
    "IT_FISCAL_CODE": "national_id",
    "MAC_ADDRESS": "device",
    "MEDICAL_LICENSE": "national_id",
    "PL_PESEL": "national_id",
    "SE_PERSONNUMMER": "national_id",
    "UK_NHS": "national_id",
    "UK_NINO": "national_id",
    "US_ITIN": "tax_id",
    "US_SSN": "national_id",
}
"""Presidio's entities and what they are here. E-mail addresses and URLs are left to our own patterns, because Presidio
asks the network for a list of domains to judge them; phone numbers and dates, because they cost most of its time."""

_EXTRA: Final = (
    "DeIdCardRecognizer",
    "DeSocialSecurityRecognizer",
    "DeTaxIdRecognizer",
    "EsNieRecognizer",
    "EsNifRecognizer",
    "FiPersonalIdentityCodeRecognizer",
    "ItFiscalCodeRecognizer",
    "PlPeselRecognizer",
    "SePersonnummerRecognizer",
    "UkNinoRecognizer",
)
"""Recognizers with a check digit or a strict form that Presidio does not load for English by itself."""

_ONLINE: Final = ("EmailRecognizer", "UrlRecognizer")
"""Recognizers that would ask the network."""

_SHORTEST: Final = 6


def presidio() -> Find:
    """Return Presidio as a detector. Raises ImportError when the extra `detect` is not installed."""
    analyzer = _analyzer()

    def find(values: Sequence[str], words: Sequence[str]) -> list[list[Hit]]:
        return [_hits(analyzer, value, list(words)) for value in values]

    return find


def _analyzer() -> Any:
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, predefined_recognizers  # noqa: PLC0415  # optional extra
    from presidio_analyzer.nlp_engine import NoOpNlpEngine  # noqa: PLC0415  # optional extra

    engine = NoOpNlpEngine([{"lang_code": "en", "model_name": "no_op"}])
    engine.load()
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    for name in _ONLINE:
        registry.remove_recognizer(name)
    for name in _EXTRA:
        registry.add_recognizer(getattr(predefined_recognizers, name)(supported_language="en"))
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def _hits(analyzer: Any, value: str, words: list[str]) -> list[Hit]:
    if len(value) < _SHORTEST or not any(map(str.isdigit, value)):
        return []  # each of these entities holds a digit
    found = analyzer.analyze(
        value, language="en", entities=list(_CATEGORIES), context=words or None, score_threshold=THRESHOLD
    )
    return [
        Hit(_CATEGORIES[each.entity_type], each.start, each.end, each.score, f"Presidio {each.entity_type}")
        for each in found
    ]
