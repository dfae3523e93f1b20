"""A summary made of the text's own sentences: those nearest to the middle of its meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.enrichment.finding import Finding, Status, Step
from shared.enrichment.reading import SENTENCE, Reading, Tongue
from shared.enrichment.words import words
from shared.providers.local import PROVIDER, embedder
from shared.providers.local.calibration import centred, mean

_FEWEST_WORDS = 3  # "Yes!" may lie near the middle, but it tells nothing
_SENTENCES_FOR_TWO = 4  # a text of fewer sentences is summed up by one of them
_SENTENCES_FOR_THREE = 9


def find_summary(reading: Reading, tongue: Tongue, *, tick: Callable[[int], None]) -> Finding:
    """The SUMMARY finding: one to three sentences, unchanged, in the order of the text."""
    means = mean(tongue.tag)
    telling = list(dict.fromkeys(s for s in reading.sentences if len(words(s)) >= _FEWEST_WORDS))
    count = 1 + (len(telling) >= _SENTENCES_FOR_TWO) + (len(telling) >= _SENTENCES_FOR_THREE)
    chosen = telling or reading.sentences[:1]
    if len(telling) > count:
        meanings = centred(embedder.passages(telling, tick=tick), means.passage)
        nearness = meanings @ meanings.mean(axis=0)
        nearest = np.argsort(-nearness, kind="stable")[:count]
        chosen = [telling[index] for index in sorted(nearest)]
    used, of = len(reading.sentences), reading.sentences_in_text
    note = None
    if not chosen:
        note = "There are no words in this text."
    elif used < of:
        note = f"The text is long: {used} of its {of} sentences, evenly spread, were compared."
    elif len(telling) <= count:
        note = "The text is so short that it is its own summary."
    return Finding(
        step=Step.SUMMARY,
        value=" ".join(chosen) or None,
        language=tongue.code,
        provider=PROVIDER,
        model=embedder.MODEL,
        version=embedder.model_version(),
        parameters={
            "method": "sentences nearest the centroid",
            "sentences": used,
            "of": of,
            "longest_sentence": SENTENCE,
            "centred_on": means.tag,
        },
        confidence=None,
        status=Status.DRAFT if chosen else Status.UNAVAILABLE,
        note=note,
    )
