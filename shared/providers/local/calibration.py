"""The mean vector of each language, which comparisons between languages take away.

The model puts each language into a cluster of its own, so that two texts are close first of all
because they share a language. Taking the mean of its language from each vector removes that; the
means come from the same twelve everyday sentences in every language, so that they hold the
language and not a subject. `scripts/calibrate_embeddings.py` computes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from shared.providers.local.embedder import Vector

SENTENCES = Path(__file__).with_name("calibration_sentences.json")
VECTORS = Path(__file__).with_name("calibration.npy")  # language x (passage, query) x dimension
PROVENANCE = Path(__file__).with_name("calibration.json")  # model, version, order of languages


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean vectors of a language, not normalised."""

    passage: Vector
    query: Vector
    #: whose mean it is: an ISO 639-1 code, "-Latn" added for romanised text, or "all"
    tag: str


@cache
def mean(tag: str | None) -> Mean:
    """The mean of a language; the mean over all languages where that one has none."""
    tags = json.loads(PROVENANCE.read_text("utf-8"))["languages"]
    vectors = np.load(VECTORS)
    if tag is not None and tag in tags:
        passage, query = vectors[tags.index(tag)]
        return Mean(passage, query, tag)
    passage, query = vectors.mean(axis=0)
    return Mean(passage, query, "all")


def centred(vectors: Vector, mean: Vector) -> Vector:
    """The vectors less the mean of their language, normalised again."""
    moved = vectors - mean
    length = np.linalg.norm(moved, axis=-1, keepdims=True)
    result: Vector = moved / np.maximum(length, np.float32(1e-9))
    return result
