"""Keywords: the words and phrases of a text whose vectors lie nearest to the text's own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

from shared.enrichment.finding import Finding, Status, Step
from shared.enrichment.reading import Reading, Tongue
from shared.enrichment.words import folded, function_words, word_pattern
from shared.providers.local import PROVIDER, embedder
from shared.providers.local.calibration import centred, mean
from shared.providers.local.embedder import Vector

MOST_CANDIDATES = 20  # compared by embedding, about 15 ms each on one thread
MOST_KEYWORDS = 8
_WORDS_A_KEYWORD = 6  # of the text: three sentences have no eight keywords
_SHORTEST = 2  # letters and marks; a single one is an initial or a verse number
_STEM = 4  # characters that two forms of one word share at least ...
_STEM_SHARE = 0.6  # ... and this share of the shorter form


def find_keywords(
    reading: Reading, tongue: Tongue, *, text: Vector | None, tick: Callable[[int], None]
) -> Finding:
    """The KEYWORDS finding; `text` is the vector of the whole text.

    Candidates are single words and pairs without function words; the most frequent and longest
    are compared with the text by embedding, and no word is named twice.
    """
    ignored = function_words(tongue.tag or "")
    runs = list(_runs(reading.passages, ignored=ignored | function_words("en")))
    candidates = _candidates(runs)
    means = mean(tongue.tag)
    scores: dict[str, float] = {}
    if text is not None:
        about = centred(text, means.passage)
        for done, phrase in enumerate(candidates):
            tick(done)
            scores[phrase] = float(centred(embedder.query(phrase), means.query) @ about)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    count = min(MOST_KEYWORDS, max(3, sum(map(len, runs)) // _WORDS_A_KEYWORD))
    chosen = _different(ranked)[:count]
    note = None
    if not chosen:
        note = "There are no words in this text that could be keywords."
    elif not ignored:
        note = (
            f"There is no list of function words for {tongue.name}, "
            "so that everyday words may be among the keywords."
        )
    return Finding(
        step=Step.KEYWORDS,
        value=chosen or None,
        language=tongue.code,
        provider=PROVIDER,
        model=embedder.MODEL,
        version=embedder.model_version(),
        parameters={
            "candidates": len(scores),
            "function_words": len(ignored),
            "centred_on": means.tag,
            "similarities": {phrase: round(scores[phrase], 3) for phrase in chosen},
        },
        confidence=None,
        status=Status.DRAFT if chosen else Status.UNAVAILABLE,
        note=note,
    )


def _runs(passages: Iterable[str], *, ignored: frozenset[str]) -> Iterable[list[str]]:
    """Words that follow each other with nothing but a space between, function words left out."""
    for passage in passages:
        run: list[str] = []
        end = 0
        for match in word_pattern().finditer(passage):
            word = match.group()
            if run and not passage[end : match.start()].isspace():
                yield run
                run = []
            if folded(word) in ignored or len(word) < _SHORTEST or not word[0].isalpha():
                if run:
                    yield run
                run = []
            else:
                run.append(word)
            end = match.end()
        if run:
            yield run


def _candidates(runs: Iterable[list[str]]) -> list[str]:
    """Words and pairs, those of frequent and long words first, as they are spelt at first."""
    spelling: dict[tuple[str, ...], str] = {}
    frequency: Counter[str] = Counter()
    for run in runs:
        keys = [folded(word) for word in run]
        frequency.update(keys)
        for key, word in zip(keys, run, strict=True):
            spelling.setdefault((key,), word)
        for pair, spelt in zip(pairwise(keys), pairwise(run), strict=True):
            if pair[0] != pair[1]:  # "house house" (in every house) is grammar, not a subject
                spelling.setdefault(pair, " ".join(spelt))

    def weight(phrase: tuple[str, ...]) -> float:
        return sum(frequency[word] * math.sqrt(len(word)) for word in phrase)

    chosen: list[str] = []
    used: Counter[str] = Counter()
    for phrase in sorted(spelling, key=weight, reverse=True):
        # each word at most twice, or the most frequent one would fill the list with its pairs
        if all(used[word] < 2 for word in phrase):
            used.update(phrase)
            chosen.append(spelling[phrase])
    return chosen[:MOST_CANDIDATES]


def _different(ranked: Iterable[str]) -> list[str]:
    """Drops each phrase with a word, or a form of a word, that a better phrase has."""
    chosen: list[str] = []
    seen: list[str] = []
    for phrase in ranked:
        keys = [folded(word) for word in phrase.split()]
        if not any(_same_word(key, known) for key in keys for known in seen):
            chosen.append(phrase)
            seen += keys
    return chosen


def _same_word(one: str, other: str) -> bool:
    common = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    return one == other or common >= max(_STEM, _STEM_SHARE * min(len(one), len(other)))
