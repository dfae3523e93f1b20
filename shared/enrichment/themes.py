"""Themes: which of the archive's fixed themes a text is about, without any training.

Each theme is described by three short English sentences (themes.json). The descriptions are
embedded as queries, the text as a passage, each less the mean of its language, and compared.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from shared.enrichment.finding import JSON, Finding, Status, Step
from shared.enrichment.reading import Tongue
from shared.providers.local import PROVIDER, embedder
from shared.providers.local.calibration import centred, mean
from shared.providers.local.embedder import Vector

_MOST = 3
# How far a theme's similarity must lie above the mean of all themes to be named at all. Of 74 short
# stories in 14 languages two stayed below; the theme named first was right for 35 of the 44 on
# which this was chosen, and for 25 of 30 written afterwards.
_STANDS_OUT = 0.08
# A further theme is named when it stands out nearly as far as the best one.
_NEARLY = 0.8


@cache
def descriptions() -> dict[str, list[str]]:
    """The themes, each with the sentences that describe it."""
    described: dict[str, list[str]] = json.loads(
        Path(__file__).with_name("themes.json").read_text("utf-8")
    )
    return described


def find_themes(tongue: Tongue, *, text: Vector | None) -> Finding:
    """The THEMES finding; `text` is the vector of the whole text.

    Not for romanised text, of which the model knows too little: of ten such stories in Hindi and
    Tamil it named one theme rightly.
    """
    means = mean(tongue.tag)
    chosen: list[str] = []
    parameters: dict[str, JSON] = {"themes": len(descriptions()), "centred_on": means.tag}
    note: str | None = None
    if text is None:
        note = "There are no words in this text."
    elif tongue.romanised:
        note = f"Themes cannot be told from {tongue.name}; the model reads the native script only."
    else:
        similarity = _themes() @ centred(text, means.passage)
        above = similarity - similarity.mean()
        order = np.argsort(-above, kind="stable")
        least = max(_STANDS_OUT, _NEARLY * above[order[0]])
        names = list(descriptions())
        chosen = [names[index] for index in order[:_MOST] if above[index] >= least]
        parameters["scores"] = {names[index]: round(float(above[index]), 3) for index in order}
        if not chosen:
            note = "No theme stands out in this text."
    return Finding(
        step=Step.THEMES,
        value=chosen or None,
        language=tongue.code,
        provider=PROVIDER,
        model=embedder.MODEL,
        version=embedder.model_version(),
        parameters=parameters,
        confidence=None,
        status=Status.DRAFT if chosen else Status.UNAVAILABLE,
        note=note,
    )


@cache
def _themes() -> Vector:
    """One normalised vector a theme, in the order of `descriptions`."""
    english = mean("en").query
    themes: Vector = np.array(
        [
            np.mean([centred(embedder.query(each), english) for each in sentences], axis=0)
            for sentences in descriptions().values()
        ]
    )
    themes /= np.linalg.norm(themes, axis=1, keepdims=True)
    return themes
