"""The enrichment of a text: all steps in their order, each finding as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from shared.enrichment.embedding import Chunks, find_embedding, vector_of
from shared.enrichment.finding import Finding, Step
from shared.enrichment.identification import Letters, find_language, find_script
from shared.enrichment.keywords import MOST_CANDIDATES, find_keywords
from shared.enrichment.languages import Language, language
from shared.enrichment.reading import Reading, Tongue
from shared.enrichment.sentiment import find_sentiment
from shared.enrichment.summary import find_summary
from shared.enrichment.themes import find_themes

STEPS = (
    Step.LANGUAGE,
    Step.SCRIPT,
    Step.EMBEDDING,  # before the steps that compare with the text's vector
    Step.KEYWORDS,
    Step.SUMMARY,
    Step.THEMES,
    Step.SENTIMENT,
)


def enrich_text(
    text: str,
    *,
    declared_language: str | None,
    finished: Mapping[Step, Finding],
    progress: Callable[[int, int, str], None],
    kept: Chunks | None = None,
) -> Iterator[Finding]:
    """Yields the finding of each step that is not in `finished`, in the order of `STEPS`.

    `declared_language` is the contributor's ISO 639-1 code; the steps after detection work in it
    where the text can be in it. `progress(done, total, phase)` counts passages, sentences and
    candidates, with the step's name as phase; `total` stays the same for a text, also when it is
    taken up again, and what `progress` raises ends the enrichment. `kept` holds the finished parts
    of a long step. Raises UnknownLanguage for a declared language that the archive does not have,
    ProviderMissing for a missing package.
    """
    declared = language(declared_language) if declared_language else None
    reading = Reading.of(text)
    letters = Letters.of(reading.passages)
    units = dict.fromkeys(STEPS, 1) | {
        Step.EMBEDDING: max(1, len(reading.passages)),
        Step.KEYWORDS: MOST_CANDIDATES,
        Step.SUMMARY: max(1, len(reading.sentences)),
    }
    total = sum(units.values())
    known = dict(finished)
    for step in STEPS:
        if step in known:
            continue
        before = sum(units[each] for each in known)

        def tick(done: int, *, before: int = before, step: Step = step) -> None:
            progress(before + done, total, step.value)

        tick(0)
        known[step] = _find(step, known, reading, letters, declared, tick, kept)
        yield known[step]


def _find(
    step: Step,
    known: Mapping[Step, Finding],
    reading: Reading,
    letters: Letters,
    declared: Language | None,
    tick: Callable[[int], None],
    kept: Chunks | None,
) -> Finding:
    if step is Step.LANGUAGE:
        return find_language(letters, declared=declared)
    detected = known[Step.LANGUAGE]
    if step is Step.SCRIPT:
        return find_script(letters, found=detected.language)
    tongue = Tongue.of(declared, detected, known[Step.SCRIPT])
    if step is Step.EMBEDDING:
        return find_embedding(reading, tongue, tick=tick, kept=kept)
    if step is Step.SUMMARY:
        return find_summary(reading, tongue, tick=tick)
    if step is Step.SENTIMENT:
        return find_sentiment(reading, tongue)
    vector = vector_of(known[Step.EMBEDDING])
    if step is Step.KEYWORDS:
        return find_keywords(reading, tongue, text=vector, tick=tick)
    return find_themes(tongue, text=vector)
