"""What a step of the enrichment found out about an item, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


class Step(StrEnum):
    """One question asked about a text; each has one finding."""

    #: the ISO 639-1 code of the language the text is written in, as detected
    LANGUAGE = "language"
    #: the script most of its words are written in, and whether that is Latin for an Indian language
    SCRIPT = "script"
    #: up to eight words or phrases of the text, the most telling first
    KEYWORDS = "keywords"
    #: one to three sentences of the text, unchanged and in its order
    SUMMARY = "summary"
    #: up to three themes of the archive's fixed vocabulary, the strongest first
    THEMES = "themes"
    #: the vector by which search and "similar items" compare texts
    EMBEDDING = "embedding"
    #: positive, neutral or negative; English only
    SENTIMENT = "sentiment"


class Status(StrEnum):
    """How far a finding may be relied on."""

    #: made by a machine; nobody has looked at it yet
    DRAFT = "draft"
    #: there is no answer; the note says why
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one step, with its provenance."""

    step: Step
    #: JSON-safe; None when the status is UNAVAILABLE
    value: JSON
    #: ISO 639-1 code of the language the step worked in, None when it is not known
    language: str | None
    #: who computed it, "local" for the models that run on this machine
    provider: str
    model: str
    version: str
    #: what the step was told and what it measured, enough to explain or repeat the value
    parameters: dict[str, JSON]
    #: 0 to 1; each step says what it measures, None where there is no honest figure
    confidence: float | None
    status: Status
    #: the sentence a person reads: why there is no value, or what to be careful of
    note: str | None
    #: EMBEDDING only: float32, little endian
    vector: bytes | None = None
