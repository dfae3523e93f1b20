"""Sentences and passages of a text, and an even sample of them when there are too many."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")

# A full stop ends a sentence only before a space; a danda and its relatives always do. A run of
# marks is entered at its first one only, so that a million dots take linear time.
_END = re.compile(
    r"(?:[।॥۔؟]+|(?<![.!?…])[.!?…]++(?=[\"'”’»)\]]{0,3}(?:\s|$)))[\"'”’»)\]]{0,3}|\n+"
)
_LETTER = re.compile(r"[^\W\d_]")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+")  # K. R. Narayanan, e.g., i.e.
_REACH = 16  # characters looked back over for an abbreviation
_JOINERS = "\u200c\u200d"
_CLUSTER = 32  # characters; no real letter carries more marks


def sentences(text: str) -> list[str]:
    """The sentences of the text, stripped of the space around them, in its order.

    They end at ``. ! ? …`` before a space, at a danda, at the Urdu full stop and question mark,
    and at a line break. A piece without a letter (the number of a verse or of a list) goes with
    its neighbour; what has no letter at all is no sentence.
    """
    spans: list[tuple[int, int]] = []
    start = cursor = 0
    lettered = False
    for match in _END.finditer(text):
        end = match.end()
        lettered = lettered or _LETTER.search(text, cursor, end) is not None
        cursor = end
        if match.group() == "." and _abbreviates(text[max(start, end - _REACH) : end]):
            continue
        if lettered:
            spans.append((start, end))
        elif match.group()[0] in "।॥" and spans:
            spans[-1] = (spans[-1][0], end)
        elif match.group()[0] != "\n":
            continue
        start, lettered = end, False
    if lettered or _LETTER.search(text, cursor):
        spans.append((start, len(text)))
    return [text[start:end].strip() for start, end in spans]


@cache
def _abbreviations() -> frozenset[str]:
    """Abbreviations that are followed by a full stop and a name or a number, in any language."""
    lists = json.loads(Path(__file__).with_name("abbreviations.json").read_text("utf-8"))
    return frozenset(word for words in lists.values() for word in words.split())


def _abbreviates(head: str) -> bool:
    """Whether the full stop at the end of `head` belongs to an abbreviation."""
    last = head.split()[-1].lstrip("(['\"“‘")
    return last[:-1].casefold() in _abbreviations() or _INITIALS.fullmatch(last) is not None


def pieces(sentences: Iterable[str], *, longest: int) -> Iterator[str]:
    """The sentences, with those of more than `longest` characters cut between words."""
    for sentence in sentences:
        start = 0
        while len(sentence) - start > longest:
            cut = sentence.rfind(" ", start + 1, start + longest + 1)
            if cut < 0:
                cut = _between_letters(sentence, start + longest)
            yield sentence[start:cut].strip()
            start = cut
        yield sentence[start:].strip()


def _between_letters(text: str, cut: int) -> int:
    """`cut`, or the place shortly before it that parts no letter from its marks."""
    for place in range(cut, cut - _CLUSTER, -1):
        mark = unicodedata.category(text[place]).startswith("M") or text[place] in _JOINERS
        if not mark and text[place - 1] not in _JOINERS:
            return place
    return cut


def passages(sentences: Iterable[str], *, longest: int) -> list[str]:
    """The sentences joined to passages of at most `longest` characters."""
    found: list[str] = []
    for piece in pieces(sentences, longest=longest):
        if found and len(found[-1]) + 1 + len(piece) <= longest:
            found[-1] += f" {piece}"
        else:
            found.append(piece)
    return found


def sample(parts: Sequence[Part], *, most: int) -> list[Part]:
    """All parts, or `most` of them spread evenly, the first and the last among them."""
    if len(parts) <= most:
        return list(parts)
    return [parts[round(index * (len(parts) - 1) / (most - 1))] for index in range(most)]
