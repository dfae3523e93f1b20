"""Text files on their way into the archive, from paths that a person named."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.archive.checks import MAX_TITLE_LENGTH, InvalidContribution, TextTooLarge, decode
from shared.config import get_settings

#: What is taken from a folder; a file that is named itself must have one of these, too.
SUFFIXES = (".txt", ".md")


class NothingToImport(InvalidContribution):
    """There is no .txt or .md file there."""

    code = "nothing_to_import"


class UnreadableFile(InvalidContribution):
    """The file cannot be read."""

    code = "unreadable_file"


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file's contribution."""

    title: str
    text: str
    submission_key: str  # of its path and content: the same file again is the same contribution


def find(paths: Sequence[Path]) -> list[Path]:
    """The files to import: those named, and those in the folders named, in a stable order.

    Symbolic links to folders are not followed inside a folder, so that a loop ends; hidden files
    are passed over. A path that does not exist stays in the list, so that `read` can say so.
    Raises `NothingToImport` when nothing is left.
    """
    found: list[Path] = []
    for path in paths:
        # Not Path.is_dir, which raises what is better said by `read` about this one path.
        found.extend(_in_folder(path) if os.path.isdir(path) else [path])
    if not found:
        places = ", ".join(_as_text(str(path)) for path in paths)
        raise NothingToImport(
            f"There is no {' or '.join(SUFFIXES)} file in {places}; name a file or another folder."
        )
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> Iterator[Path]:
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(parent, name)
    # A folder that cannot be listed becomes an entry, whose reading tells why.
    yield from (Path(error.filename) for error in unreadable)


def read(path: Path) -> TextFile:
    """The file's title and text; raises `InvalidContribution` in words about this file."""
    name = _as_text(path.name)
    limit = get_settings().max_text_bytes
    try:
        facts = path.stat()
        if path.suffix.lower() not in SUFFIXES and not stat.S_ISDIR(facts.st_mode):
            raise InvalidContribution(
                f"{name} is not a {' or '.join(SUFFIXES)} file; only texts can be imported."
            )
        # Opening a named pipe would wait until somebody writes to it.
        if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
            raise UnreadableFile(f"{name} cannot be read: it is not a regular file.")
        with path.open("rb") as file:
            data = file.read(limit + 4)  # a byte order mark does not count
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableFile(f"{name} cannot be read: {reason}.") from error
    if len(data) > limit + 3:
        raise TextTooLarge(
            f"{name} has {facts.st_size / 1e6:.1f} MB; this archive accepts texts up to "
            f"{limit / 1e6:.1f} MB. Split it into parts."
        )
    text = decode(data)
    key = hashlib.sha256(os.fsencode(path.resolve()) + b"\0" + data).hexdigest()
    return TextFile(title=_title(path, text), text=text, submission_key=key)


def _title(path: Path, text: str) -> str:
    """A Markdown file's first heading, else the file's name in words."""
    if path.suffix.lower() == ".md":
        for line in text.splitlines():
            if line.startswith("# ") and line[2:].strip():
                return line[2:].strip()[:MAX_TITLE_LENGTH]
    words = _as_text(path.stem).replace("_", " ").replace("-", " ").strip()
    return (words or "Untitled")[:MAX_TITLE_LENGTH]


def _as_text(name: str) -> str:
    """The name of a file with a question mark for each byte that is no text."""
    return name.encode("utf-8", "replace").decode()
