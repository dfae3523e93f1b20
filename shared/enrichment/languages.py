"""The languages that the archive can name, and the scripts they are written in."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from shared.errors import Invalid


class UnknownLanguage(Invalid):
    """The archive does not know this language."""

    code = "unknown_language"


@dataclass(frozen=True, slots=True)
class Script:
    """A writing system, by its ISO 15924 code."""

    code: str
    name: str


DEVANAGARI = Script("Deva", "Devanagari")
BENGALI = Script("Beng", "Bengali-Assamese")
GURMUKHI = Script("Guru", "Gurmukhi")
GUJARATI = Script("Gujr", "Gujarati")
ODIA = Script("Orya", "Odia")
TAMIL = Script("Taml", "Tamil")
TELUGU = Script("Telu", "Telugu")
KANNADA = Script("Knda", "Kannada")
MALAYALAM = Script("Mlym", "Malayalam")
ARABIC = Script("Arab", "Perso-Arabic")
LATIN = Script("Latn", "Latin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language the archive accepts, by its ISO 639-1 code."""

    code: str
    name: str
    #: its name in the language itself
    endonym: str
    #: the scripts it is at home in; Latin letters for an Indian language count as romanised
    scripts: tuple[Script, ...]
    direction: Literal["ltr", "rtl"] = "ltr"


LANGUAGES: dict[str, Language] = {
    each.code: each
    for each in (
        Language(code="hi", name="Hindi", endonym="हिन्दी", scripts=(DEVANAGARI,)),
        Language(code="bn", name="Bengali", endonym="বাংলা", scripts=(BENGALI,)),
        Language(code="ta", name="Tamil", endonym="தமிழ்", scripts=(TAMIL,)),
        Language(code="te", name="Telugu", endonym="తెలుగు", scripts=(TELUGU,)),
        Language(code="mr", name="Marathi", endonym="मराठी", scripts=(DEVANAGARI,)),
        Language(code="gu", name="Gujarati", endonym="ગુજરાતી", scripts=(GUJARATI,)),
        Language(code="kn", name="Kannada", endonym="ಕನ್ನಡ", scripts=(KANNADA,)),
        Language(code="ml", name="Malayalam", endonym="മലയാളം", scripts=(MALAYALAM,)),
        Language(code="pa", name="Punjabi", endonym="ਪੰਜਾਬੀ", scripts=(GURMUKHI,)),
        Language(code="or", name="Odia", endonym="ଓଡ଼ିଆ", scripts=(ODIA,)),
        Language(code="as", name="Assamese", endonym="অসমীয়া", scripts=(BENGALI,)),
        Language(code="ur", name="Urdu", endonym="اردو", scripts=(ARABIC,), direction="rtl"),
        Language(code="sa", name="Sanskrit", endonym="संस्कृतम्", scripts=(DEVANAGARI,)),
        Language(code="en", name="English", endonym="English", scripts=(LATIN,)),
    )
}


def language(code: str) -> Language:
    """The language with this ISO 639-1 code; raises UnknownLanguage."""
    try:
        return LANGUAGES[code]
    except KeyError:
        known = ", ".join(f"{each.code} ({each.name})" for each in LANGUAGES.values())
        raise UnknownLanguage(
            f"There is no language {code!r} here; choose one of {known}."
        ) from None


# First and last code point of each block, from the Unicode character database (Blocks.txt).
_BLOCKS: tuple[tuple[int, int, Script], ...] = (
    (0x0041, 0x024F, LATIN),
    (0x0600, 0x06FF, ARABIC),
    (0x0750, 0x077F, ARABIC),
    (0x08A0, 0x08FF, ARABIC),
    (0x0900, 0x097F, DEVANAGARI),
    (0x0980, 0x09FF, BENGALI),
    (0x0A00, 0x0A7F, GURMUKHI),
    (0x0A80, 0x0AFF, GUJARATI),
    (0x0B00, 0x0B7F, ODIA),
    (0x0B80, 0x0BFF, TAMIL),
    (0x0C00, 0x0C7F, TELUGU),
    (0x0C80, 0x0CFF, KANNADA),
    (0x0D00, 0x0D7F, MALAYALAM),
    (0x1E00, 0x1EFF, LATIN),
    (0xA8E0, 0xA8FF, DEVANAGARI),
    (0xFB50, 0xFDFF, ARABIC),
    (0xFE70, 0xFEFF, ARABIC),
)
_STARTS = [first for first, _, _ in _BLOCKS]


@lru_cache(maxsize=4096)
def script_of(letter: str) -> Script | None:
    """The script of a letter, None when it belongs to none of the archive's languages."""
    index = bisect_right(_STARTS, ord(letter)) - 1
    if index < 0:
        return None
    _, last, script = _BLOCKS[index]
    return script if ord(letter) <= last else None
