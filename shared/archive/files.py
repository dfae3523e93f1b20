"""Text files on their way into the archive, from paths that a person named."""

from __future__ import annotations

import hashlib
import os
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
        found.extend(_in_folder(path) if path.is_dir() else [path])
    if not found:
        places = ", ".join(str(path) for path in paths)
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
    if path.suffix.lower() not in SUFFIXES and not path.is_dir():
        raise InvalidContribution(
            f"{path.name} is not a {' or '.join(SUFFIXES)} file; only texts can be imported."
        )
    limit = get_settings().max_text_bytes
    try:
        with path.open("rb") as file:
            data = file.read(limit + 4)  # a byte order mark does not count
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableFile(f"{path.name} cannot be read: {reason}.") from error
    if len(data) > limit + 3:
        size = path.stat().st_size
        raise TextTooLarge(
            f"{path.name} has {size / 1e6:.1f} MB; this archive accepts texts up to "
            f"{limit / 1e6:.1f} MB. Split it into parts."
        )
    text = decode(data)
    name = os.fsencode(path.resolve())
    key = hashlib.sha256(name + b"\0" + data).hexdigest()
    return TextFile(title=_title(path, text), text=text, submission_key=key)


def _title(path: Path, text: str) -> str:
    """A Markdown file's first heading, else the file's name in words."""
    if path.suffix.lower() == ".md":
        for line in text.splitlines():
            if line.startswith("# ") and line[2:].strip():
                return line[2:].strip()[:MAX_TITLE_LENGTH]
    words = path.stem.replace("_", " ").replace("-", " ").strip()
    # A file name may hold bytes that are no text.
    readable = words.encode("utf-8", "replace").decode()
    return (readable or "Untitled")[:MAX_TITLE_LENGTH]
