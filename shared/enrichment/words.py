"""Words of a text in any script, and the function words that say nothing about its subject."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from pathlib import Path

_ZWNJ, _ZWJ = "\u200c", "\u200d"


@cache
def word_pattern() -> re.Pattern[str]:
    """Matches one word; numbers count as words.

    Python's ``\\w`` leaves out combining marks, so that it would cut an Indian word at every
    vowel sign: the marks (Mn, Mc) are added, and the two joiners where they stand inside a word.
    """
    marks = "".join(
        re.escape(chr(point))
        for point in range(0x300, 0x20000)  # no combining mark below; none above but selectors
        if unicodedata.category(chr(point)) in ("Mn", "Mc")
    )
    letter = rf"(?:[^\W_]|[{marks}])"
    inside = rf"(?:{letter}|[{_ZWNJ}{_ZWJ}](?={letter})|['’](?=[^\W\d_]))"
    return re.compile(rf"[^\W_]{inside}*")


def words(text: str) -> list[str]:
    """The words of the text as they stand there, in its order."""
    return word_pattern().findall(text)


def folded(word: str) -> str:
    """The form under which two spellings of a word are compared."""
    return unicodedata.normalize("NFC", word).casefold()


@cache
def function_words(tag: str) -> frozenset[str]:
    """The function words (pronouns, postpositions, auxiliaries ...) of a language, folded.

    `tag` is an ISO 639-1 code, with "-Latn" for an Indian language in Latin letters. Empty when
    there is no list for it.
    """
    lists = json.loads(Path(__file__).with_name("function_words.json").read_text("utf-8"))
    return frozenset(folded(word) for word in lists.get(tag, "").split())
