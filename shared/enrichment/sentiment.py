"""Sentiment of English texts; there is no model here for the other languages."""

from __future__ import annotations

from shared.enrichment.finding import JSON, Finding, Status, Step
from shared.enrichment.reading import Reading, Tongue
from shared.providers.local import PROVIDER, sentiment

# Where VADER's authors draw the line between neutral and the rest (README, "About the Scoring").
_NEUTRAL = 0.05


def find_sentiment(reading: Reading, tongue: Tongue) -> Finding:
    """The SENTIMENT finding: the mean of the sentences' compound scores, -1 to 1.

    The mean, because the score of a whole text runs to one of the ends with its length.
    """
    value: JSON = None
    note: str | None = None
    if not reading.sentences:
        note = "There are no words in this text."
    elif tongue.code != "en":
        note = f"There is no model for the sentiment of {tongue.name}; only English has one."
    else:
        scores = [sentiment.compound(sentence) for sentence in reading.sentences]
        mean = sum(scores) / len(scores)
        label = "neutral" if abs(mean) < _NEUTRAL else "positive" if mean > 0 else "negative"
        value = {"label": label, "compound": round(mean, 3)}
    return Finding(
        step=Step.SENTIMENT,
        value=value,
        language=tongue.code,
        provider=PROVIDER,
        model=sentiment.MODEL,
        version=sentiment.model_version(),
        parameters={
            "sentences": len(reading.sentences),
            "of": reading.sentences_in_text,
            "neutral_below": _NEUTRAL,
        },
        confidence=None,
        status=Status.UNAVAILABLE if value is None else Status.DRAFT,
        note=note,
    )
