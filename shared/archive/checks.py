"""What a contributed text may hold. Every refusal says what is wrong and what to do about it."""

from __future__ import annotations

import unicodedata

from shared.config import get_settings
from shared.errors import Invalid

MAX_TITLE_LENGTH = 200  # characters
#: Indic clusters stay far below; longer runs are made to break screens.
MAX_COMBINING_RUN = 20

#: Invisible characters that reorder what stands around them, so that a text can lie about itself.
#: Direction marks and isolates, which Urdu beside English needs, are not among them.
_REORDERING = {"\u202a", "\u202b", "\u202c", "\u202d", "\u202e"}


class InvalidContribution(Invalid):
    """This cannot be contributed as it is."""

    code = "invalid_contribution"


class TextTooLarge(InvalidContribution):
    """The text is larger than this archive accepts; split it into parts."""

    code = "text_too_large"


class TextEmpty(InvalidContribution):
    """The text is empty; write or paste the story."""

    code = "text_empty"


class NotUtf8(InvalidContribution):
    """The file is not UTF-8 text; save it as UTF-8 and try again."""

    code = "not_utf8"


def decode(data: bytes) -> str:
    """The text of a file; raises `NotUtf8` with the place of the first wrong byte."""
    try:
        # Not "utf-8-sig", which counts the wrong byte's place without the byte order mark.
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise NotUtf8(
            f"The file is not UTF-8 text (byte {error.start + 1} is not valid); save it as UTF-8 "
            "and try again."
        ) from None


def check_text(text: str) -> str:
    """The text as it will be kept: line ends unified, outer blanks cut, nothing else changed."""
    limit = get_settings().max_text_bytes
    if len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit:
        raise TextTooLarge(
            f"The text is larger than this archive accepts ({_size(limit)}); split it into parts."
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not _has_substance(text):
        raise TextEmpty()
    _check_characters(text, "text")
    return text


def check_title(title: str) -> str:
    """The title as it will be kept, on one line."""
    title = " ".join(title.split())
    if not _has_substance(title):
        raise InvalidContribution("The title is empty; give the story a name.")
    if len(title) > MAX_TITLE_LENGTH:
        raise InvalidContribution(
            f"The title has {len(title)} characters; at most {MAX_TITLE_LENGTH} fit. Shorten it."
        )
    _check_characters(title, "title")
    return title


def _has_substance(text: str) -> bool:
    return any(unicodedata.category(sign)[0] not in "ZC" for sign in text)


def _check_characters(text: str, what: str) -> None:
    run = 0
    for sign in text:
        if sign.isascii():
            run = 0
            if " " <= sign <= "~" or sign in "\n\t":
                continue
            hint = "is it a binary file?" if sign == "\0" else "remove it and try again."
            raise InvalidContribution(
                f"The {what} contains a control character ({_code(sign)}); {hint}"
            )
        if sign in _REORDERING:
            raise InvalidContribution(
                f"The {what} contains an invisible character that reorders text ({_code(sign)}); "
                "remove it and try again."
            )
        category = unicodedata.category(sign)
        if category[0] == "M":
            run += 1
        elif category != "Cf":  # a joiner between marks is no letter that they could stand on
            run = 0
        if run > MAX_COMBINING_RUN:
            raise InvalidContribution(
                f"The {what} stacks more than {MAX_COMBINING_RUN} marks on one letter; remove "
                "them and try again."
            )
        if category in {"Cc", "Cs"}:
            raise InvalidContribution(
                f"The {what} contains a control character ({_code(sign)}); remove it and try again."
            )


def _code(sign: str) -> str:
    return f"U+{ord(sign):04X}"


def _size(count: int) -> str:
    return f"{count / 1_048_576:g} MB" if count >= 1_048_576 else f"{count / 1000:g} kB"
