"""Removing what has had its time: ended sessions and forgotten temporary files."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.accounts.sign_in import forget_expired
from shared.config import get_settings
from shared.observability.logging import get_logger

log = get_logger(__name__)

#: Seconds that a temporary file is kept: nothing takes a day.
_TEMPORARY_AGE = 24 * 3600


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed."""

    sign_ins: int
    files: int


def temporary_folder() -> Path:
    """Where work in progress may write files; what is left there for a day is removed."""
    return get_settings().bharatverse_home / "tmp"


def clean_up() -> Cleaned:
    """Remove what has expired. Celery's results expire in Redis by themselves."""
    cleaned = Cleaned(sign_ins=forget_expired(), files=_remove_old_files(temporary_folder()))
    if cleaned != Cleaned(0, 0):
        log.info(
            "Cleaned up", action="cleanup.done", sign_ins=cleaned.sign_ins, files=cleaned.files
        )
    return cleaned


def _remove_old_files(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    limit = time.time() - _TEMPORARY_AGE
    removed = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # whoever made it was quicker
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime < limit:
                path.unlink()
                removed += 1
    return removed
