"""Flower's password: FLOWER_PASSWORD, or one that is made once and kept."""

from __future__ import annotations

import fcntl
import os
import secrets

from shared.config import Settings


def flower_password(settings: Settings) -> str:
    """The password Flower asks for.

    Without FLOWER_PASSWORD a random one is kept in `BHARATVERSE_HOME/flower-password`, which only
    its owner may read. Two processes that ask at the same moment get the same one. Raises OSError
    when the folder cannot be written.
    """
    if settings.flower_password:
        return settings.flower_password
    settings.bharatverse_home.mkdir(parents=True, exist_ok=True)
    path = settings.bharatverse_home / "flower-password"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
        # Held until the file closes: the second process waits, then reads what the first one
        # wrote. A file that a crash or a full disk left empty is filled by the next one.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (password := file.read().strip()):
            password = secrets.token_urlsafe(12)
            file.write(password + "\n")
        return password
