"""Sentiment of English sentences by VADER's word list and rules."""

from __future__ import annotations

from functools import cache
from typing import Any

from shared.providers.packages import package, version

MODEL = "vaderSentiment"


def model_version() -> str:
    """The version of the package, which holds the word list."""
    return version("vaderSentiment")


def compound(sentence: str) -> float:
    """VADER's compound score of one English sentence, -1 (negative) to 1 (positive)."""
    return float(_analyser().polarity_scores(sentence)["compound"])


@cache
def _analyser() -> Any:
    return package("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
