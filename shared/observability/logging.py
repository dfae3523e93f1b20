"""Log lines: a short sentence plus fields, the same names everywhere.

`action` is what happened (`job.done`), `job` the first 8 characters of a job's id, `ms` a
duration. Contributed text, passwords and URLs with passwords are never logged.

Loggers are the standard library's underneath, so `logging.basicConfig(level=logging.DEBUG)`
gives the detailed log of a program that only imports `shared`.
"""

from __future__ import annotations

import logging
import sys
from typing import cast

import structlog

#: Libraries whose INFO lines tell an operator nothing; DEBUG shows them again.
_CHATTY = (
    "urllib3",
    "alembic",
    "asyncio",
    # A line for every canary; what a job did is in our own lines.
    "celery.beat",
    "celery.worker.strategy",
    "celery.app.trace",
)


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


def configure_logging(level: str) -> None:
    """Send every log line of this process to stderr; called by programs, never on import."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(level if level == "DEBUG" else "WARNING")
