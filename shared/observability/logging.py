"""Log lines: a short sentence plus fields, the same names everywhere.

`action` is what happened (`job.done`), `job` the first 8 characters of a job's id, `ms` a
duration. Contributed text, passwords and URLs with passwords are never logged.

Loggers are the standard library's underneath, so `logging.basicConfig(level=logging.DEBUG)`
gives the detailed log of a program that only imports `shared`.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import cast

import structlog

#: Libraries whose INFO lines tell an operator nothing; DEBUG shows them again.
_CHATTY = (
    "urllib3",
    "alembic",
    "asyncio",
    # A line for every canary; what a job did is in our own lines.
    "celery.beat",
    "celery.worker.request",  # "Discarding revoked task" for a stale canary; errors stay
    "celery.worker.strategy",
    "celery.app.trace",
)
#: Libraries that go on trying by themselves when a connection is lost.
_RETRYING = ("celery", "kombu")
_QUIET = 10.0  # seconds


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that renders its fields as `key=value` behind the sentence."""
    return cast(
        structlog.stdlib.BoundLogger,
        structlog.wrap_logger(
            logging.getLogger(name),
            processors=[
                structlog.stdlib.filter_by_level,
                _sentence_first,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        ),
    )


def _sentence_first(
    logger: object, method: str, event: structlog.typing.EventDict
) -> tuple[tuple[str], dict[str, object]]:
    sentence = str(event.pop("event", ""))
    exc_info = event.pop("exc_info", None)
    fields = (f"{key}={_one_line(value)}" for key, value in event.items())
    return (" ".join([sentence, *fields]),), {"exc_info": exc_info} if exc_info else {}


def _one_line(value: object) -> str:
    text = str(value).replace("\n", "\\n").replace("\r", "\\r")
    return f'"{text}"' if " " in text else text


class _OncePerOutage(logging.Filter):
    """Lets a library's complaint about a lost connection pass once in `_QUIET` seconds, untraced.

    Celery's programs retry every second, each time with a traceback of a hundred lines.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_RETRYING):
            return True
        error = record.exc_info[1] if record.exc_info else None
        is_about_connection = isinstance(error, OSError) or (
            type(error).__name__ in {"ConnectionError", "OperationalError", "TimeoutError"}
        )
        said = record.getMessage()
        if not is_about_connection and "onnection" not in said:
            return True
        record.exc_info, record.exc_text = None, None
        now = time.monotonic()
        if now - self._last.get(record.name, -_QUIET) < _QUIET:
            return False
        self._last[record.name] = now
        record.msg, record.args = said.splitlines()[0], ()
        return True


def configure_logging(level: str) -> None:
    """Send every log line of this process to stderr; called by programs, never on import."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    )
    if level != "DEBUG":
        handler.addFilter(_OncePerOutage())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(level if level == "DEBUG" else "WARNING")
