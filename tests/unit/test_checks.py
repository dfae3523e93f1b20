"""What a contributed text may hold, and what is said about one that may not be kept."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.archive.checks import (
    MAX_COMBINING_RUN,
    MAX_TITLE_LENGTH,
    InvalidContribution,
    NotUtf8,
    TextEmpty,
    TextTooLarge,
    check_text,
    check_title,
    decode,
)
from shared.config import get_settings

LIMIT = 1_048_576
ZWNJ, ZWJ, ACUTE = "\u200c", "\u200d", "\u0301"


@pytest.fixture(scope="module", autouse=True)
def _limit() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MAX_TEXT_BYTES", str(LIMIT))
        get_settings.cache_clear()
        yield
    get_settings.cache_clear()


# Empty


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\r\n\t", "\u00a0\u3000\u2028", "\u200b\u200d\ufeff", "\u200f\u2066\u2069"],
    ids=["nothing", "blank", "line ends", "unicode blanks", "zero width", "direction marks"],
)
def test_a_text_in_which_nothing_can_be_seen_is_empty(text: str) -> None:
    with pytest.raises(TextEmpty, match="write or paste the story"):
        check_text(text)


def test_an_empty_title_is_told_apart_from_an_empty_text() -> None:
    with pytest.raises(InvalidContribution, match="The title is empty"):
        check_title(" \n ")


# Size


def test_a_text_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() -> None:
    assert len(check_text("a" * LIMIT)) == LIMIT

    with pytest.raises(TextTooLarge, match=r"\(1 MB\); split it into parts"):
        check_text("a" * (LIMIT + 1))


def test_the_limit_counts_bytes_so_that_no_script_gets_more() -> None:
    fits = LIMIT // 3
    assert check_text("क" * fits)

    with pytest.raises(TextTooLarge):
        check_text("क" * (fits + 1))


def test_ten_megabytes_are_refused_at_once() -> None:
    text = "क" * 10_000_000

    started = time.perf_counter()
    with pytest.raises(TextTooLarge):
        check_text(text)

    assert time.perf_counter() - started < 0.1


def test_a_title_may_have_two_hundred_characters_and_no_more() -> None:
    assert check_title("अ" * MAX_TITLE_LENGTH) == "अ" * MAX_TITLE_LENGTH

    with pytest.raises(InvalidContribution, match="has 201 characters; at most 200 fit"):
        check_title("अ" * (MAX_TITLE_LENGTH + 1))


# Bytes


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"ab\xffcd", 3),
        (b"\xef\xbb\xbfab\xffcd", 6),
        ("नमस्ते".encode()[:-1], 16),
        ("नमस्ते".encode("utf-16"), 1),
        (b"\xed\xa0\x80", 1),
        (b"\xc0\x80", 1),
    ],
    ids=["latin", "after a byte order mark", "cut off", "UTF-16", "surrogate", "overlong NUL"],
)
def test_what_is_not_utf8_is_refused_with_the_place_of_the_first_wrong_byte(
    data: bytes, place: int
) -> None:
    with pytest.raises(NotUtf8) as refused:
        decode(data)

    assert f"(byte {place} is not valid); save it as UTF-8" in refused.value.sentence


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert decode("\ufeffनमस्ते".encode()) == "नमस्ते"


# Characters


def test_a_nul_is_refused_and_hints_at_a_binary_file() -> None:
    with pytest.raises(InvalidContribution, match=r"U\+0000.*binary file"):
        check_text("a\0b")


CONTROLS = [chr(code) for code in (*range(1, 32), *range(127, 160)) if chr(code) not in "\t\n\r"]


@pytest.mark.parametrize("sign", CONTROLS, ids=lambda sign: f"U+{ord(sign):04X}")
def test_a_control_character_is_refused_by_its_number(sign: str) -> None:
    with pytest.raises(InvalidContribution, match=rf"control character \(U\+{ord(sign):04X}\)"):
        check_text(f"a{sign}b")


def test_tabs_and_line_ends_stay_and_all_line_ends_become_one_kind() -> None:
    assert check_text("\n a\tb\r\nc\rd\n\ne \r\n") == "a\tb\nc\nd\n\ne"


def test_a_title_stands_on_one_line() -> None:
    assert check_title("  राजा\n\tविक्रम  ") == "राजा विक्रम"


@pytest.mark.parametrize("sign", "\u202a\u202b\u202c\u202d\u202e", ids=lambda sign: hex(ord(sign)))
@pytest.mark.parametrize("check", [check_text, check_title])
def test_a_character_that_reorders_text_is_refused(check: Callable[[str], str], sign: str) -> None:
    with pytest.raises(InvalidContribution, match=rf"reorders text \(U\+{ord(sign):04X}\)"):
        check(f"photo{sign}gpj.exe")


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "\ud83d\ude00"])
@pytest.mark.parametrize("check", [check_text, check_title])
def test_a_lone_surrogate_is_refused_with_a_sentence(
    check: Callable[[str], str], text: str
) -> None:
    with pytest.raises(InvalidContribution):
        check(text)


@pytest.mark.parametrize(
    "marks",
    [
        ACUTE * 10_000,
        "\u0e31" * 10_000,
        (ACUTE * MAX_COMBINING_RUN + ZWJ) * 500,
        (ACUTE * MAX_COMBINING_RUN + "\u2060") * 500,
        "\u094d" * (MAX_COMBINING_RUN + 1),
    ],
    ids=["acute", "thai", "between joiners", "between word joiners", "one too many"],
)
@pytest.mark.parametrize("check", [check_text, lambda text: check_title(text[:200])])
def test_a_tower_of_marks_on_one_letter_is_refused(check: Callable[[str], str], marks: str) -> None:
    with pytest.raises(InvalidContribution, match="stacks more than 20 marks on one letter"):
        check(f"Z{marks}")


def test_ten_thousand_marks_on_letters_of_their_own_are_a_text() -> None:
    text = f"क{ACUTE}" * 10_000

    assert check_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "क्ष त्र ज्ञ श्र र्क्ष्ण्यो",
        f"क्{ZWJ}ष श्{ZWNJ}र",
        "अ॒ग्निमी॑ळे पु॒रोहि॑तं य॒ज्ञस्य॑ दे॒वमृ॒त्विज॑म्",
        "হ্যাঁ স্ত্রী ক্ষ্মৌ",
        "ஸ்ரீ க்ஷௌ",
        "స్త్రీ క్ష్మ్యా",
        "ക്ഷ്ത്ര്യം ന്‍ ൻ",
        "ਸ੍ਵੈ ਗੁਰਮੁਖੀ ਡਾ॰",
        "اُردُو زَبَانِ مُعَلَّیٰ میں نے کہا: ‏«English»‎ اور \u2067پھر\u2069",
        f"می{ZWNJ}خواهم ﷺ ؐ",
        f"👩{ZWJ}🌾 🇮🇳 ❤️",
        "cafe" + ACUTE,
    ],
    ids=[
        "conjuncts", "joiners", "vedic accents", "bengali", "tamil", "telugu", "chillu",
        "gurmukhi", "urdu with marks and isolates", "non-joiner", "emoji", "decomposed",
    ],
)  # fmt: skip
def test_what_indian_languages_need_is_kept_sign_for_sign(text: str) -> None:
    assert check_text(text) == text
    assert check_title(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "&lt;b&gt; & &#x202e;",
        "[x](javascript:alert(1)) `code` $x^2$ :material/home:",
    ],
)
def test_html_and_markup_are_kept_as_the_text_they_are(text: str) -> None:
    assert check_text(text) == text
    assert check_title(text) == text


# For every text

ANY_TEXT = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "\0\x1f\x7f\x85\u202e\u2028\ud800\udfff\ufffe\uffff" + ZWJ + ACUTE + "\r\n क"
        ),
    )
)


@given(ANY_TEXT)
@example("\ud800")
@example("a\0")
def test_whatever_is_accepted_every_database_can_store(text: str) -> None:
    try:
        kept = check_text(text)
    except InvalidContribution:
        return

    assert "\0" not in kept
    assert 0 < len(kept.encode("utf-8")) <= LIMIT
    assert not any(unicodedata.category(sign) == "Cc" for sign in kept if sign not in "\n\t")


@given(ANY_TEXT)
@example("\x85\r\r\na\n\x1c\r")
def test_checking_what_was_kept_changes_nothing_more(text: str) -> None:
    for check in (check_text, check_title):
        try:
            kept = check(text)
        except InvalidContribution:
            continue

        assert check(kept) == kept


@given(st.binary())
@example(b"\xef\xbb\xbf\xff")
def test_bytes_are_text_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        text = decode(data)
    except NotUtf8:
        return

    assert text.encode() == data.removeprefix(b"\xef\xbb\xbf")
