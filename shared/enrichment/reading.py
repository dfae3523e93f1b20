"""A text as the steps read it: a bounded part of it, and the language they work in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.enrichment.finding import Finding
from shared.enrichment.languages import LATIN, Language, language
from shared.enrichment.sentences import passages, pieces, sample, sentences

PASSAGE = 900  # characters, about 250 tokens; the model reads at most 512 at once
MOST_PASSAGES = 48  # about 25 s of embedding on one thread, however long the text is
SENTENCE = 400  # characters; longer ones (verse or speech without full stops) are cut
MOST_SENTENCES = 32  # about 2 s of embedding on one thread


@dataclass(frozen=True, slots=True)
class Reading:
    """The parts of a text that are looked at: all of them, or an even sample of a long text."""

    passages: list[str]
    passages_in_text: int
    sentences: list[str]
    sentences_in_text: int

    @classmethod
    def of(cls, text: str) -> Reading:
        """Reads a text; a text without any letter has neither passages nor sentences."""
        in_text = sentences(text)
        long = passages(in_text, longest=PASSAGE)
        short = list(pieces(in_text, longest=SENTENCE))
        return cls(
            passages=sample(long, most=MOST_PASSAGES),
            passages_in_text=len(long),
            sentences=sample(short, most=MOST_SENTENCES),
            sentences_in_text=len(short),
        )


@dataclass(frozen=True, slots=True)
class Tongue:
    """The language that the steps after detection work in, and whether in Latin letters."""

    language: Language | None
    romanised: bool

    @classmethod
    def of(cls, declared: Language | None, detected: Finding, script: Finding) -> Tongue:
        """Prefers the contributor's word, which knows Hindi from Marathi better than a model.

        Two slips are not followed: a declared language that is not written in these letters,
        and English declared for romanised text or the other way round.
        """
        found = language(detected.language) if detected.language else None
        letters = script.value["script"] if isinstance(script.value, Mapping) else None
        chosen = found
        if declared is not None:
            home = any(letters == each.code for each in declared.scripts)
            kind = found is None or (found.code == "en") == (declared.code == "en")
            if (home or letters == LATIN.code) and kind:
                chosen = declared
        latin = letters == LATIN.code
        return cls(chosen, chosen is not None and latin and LATIN not in chosen.scripts)

    @property
    def code(self) -> str | None:
        """The ISO 639-1 code."""
        return self.language.code if self.language else None

    @property
    def tag(self) -> str | None:
        """The code, with "-Latn" for an Indian language in Latin letters."""
        return f"{self.code}-Latn" if self.romanised else self.code

    @property
    def name(self) -> str:
        """How the language is called in a note."""
        if self.language is None:
            return "this language"
        return f"romanised {self.language.name}" if self.romanised else self.language.name
