"""The vector of a text: the mean over its passages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from shared.config import get_settings
from shared.enrichment.finding import JSON, Finding, Status, Step
from shared.enrichment.reading import PASSAGE, Reading, Tongue
from shared.providers.local import PROVIDER, embedder
from shared.providers.local.embedder import Vector


class Chunks(Protocol):
    """Where a long step keeps its finished parts, so that nobody computes them again."""

    def chunks(self, step: str) -> dict[int, bytes]:
        """The parts of this step that were kept, by number."""

    def save_chunk(self, step: str, number: int, value: bytes) -> None:
        """Keep a part; may raise to stop."""


def find_embedding(
    reading: Reading, tongue: Tongue, *, tick: Callable[[int], None], kept: Chunks | None = None
) -> Finding:
    """The EMBEDDING finding; `tick` is told now and then how many passages are done.

    The vector is the normalised mean of the passages' vectors as the model gives them, not yet
    centred on its language: the mean to take away improves as the collection grows. Of a text of
    several batches each finished one goes to `kept`, and what is there already is not computed
    again.
    """
    vectors = _vectors(reading.passages, tick=tick, kept=kept)
    used, of = len(vectors), reading.passages_in_text
    parameters: dict[str, JSON] = {
        "passage_characters": PASSAGE,
        "passages": used,
        "of": of,
        "pooling": "mean, normalised",
    }
    note = None
    if not used:
        note = "There are no words in this text."
    elif used < of:
        note = f"The text is long: {used} of its {of} passages, evenly spread, were read."
    elif tongue.romanised:
        note = f"The model knows little {tongue.name}, so that similar items may be missed."
    return Finding(
        step=Step.EMBEDDING,
        value={"dimensions": embedder.DIMENSIONS, "passages": used, "of": of} if used else None,
        language=tongue.code,
        provider=PROVIDER,
        model=embedder.MODEL,
        version=embedder.model_version(),
        parameters=parameters,
        confidence=None,
        status=Status.DRAFT if used else Status.UNAVAILABLE,
        note=note,
        vector=_packed(vectors.mean(axis=0)) if used else None,
    )


def _vectors(passages: list[str], *, tick: Callable[[int], None], kept: Chunks | None) -> Vector:
    size = get_settings().batch_size
    if kept is None or len(passages) <= size:
        return embedder.passages(passages, tick=tick)
    known = kept.chunks(Step.EMBEDDING)
    vectors = np.empty((len(passages), embedder.DIMENSIONS), dtype="<f4")
    for start in range(0, len(passages), size):
        tick(start)
        part = vectors[start : start + size]
        chunk = known.get(start, b"")
        if len(chunk) == part.nbytes:  # of another length: BATCH_SIZE was changed meanwhile
            part[:] = np.frombuffer(chunk, dtype="<f4").reshape(part.shape)
        else:
            part[:] = embedder.passages(passages[start : start + size], tick=lambda _: None)
            kept.save_chunk(Step.EMBEDDING, start, part.tobytes())
    return vectors


def vector_of(embedding: Finding) -> Vector | None:
    """The vector of an EMBEDDING finding, None when there is none."""
    if embedding.vector is None:
        return None
    return np.frombuffer(embedding.vector, dtype="<f4")


def _packed(mean: Vector) -> bytes:
    return (mean / np.linalg.norm(mean)).astype("<f4").tobytes()
