"""Log lines: a sentence, then fields, through the standard library's loggers."""

from __future__ import annotations

import logging

import pytest

from shared.observability.logging import configure_logging, get_logger


def test_a_line_is_a_sentence_and_fields_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        get_logger("shared.test").info("A job is 100% done", action="job.done", ms=3, why="a\nb c")

    assert caplog.messages == ['A job is 100% done action=job.done ms=3 why="a\\nb c"']


def test_debug_logging_of_the_standard_library_shows_the_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = get_logger("shared.test")

    with caplog.at_level(logging.INFO):
        log.debug("hidden")
    with caplog.at_level(logging.DEBUG):
        log.debug("shown")

    assert caplog.messages == ["shown"]


def test_an_exception_keeps_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        get_logger("shared.test").exception("It failed", action="test.failed")

    assert caplog.records[0].exc_info is not None
    assert "ValueError: inside" in caplog.text


def test_a_lost_connection_is_complained_about_once_and_without_a_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = logging.root.handlers[:]
    try:
        configure_logging("INFO")
        for _ in range(50):
            try:
                raise ConnectionError("Error 111 connecting to 127.0.0.1")
            except ConnectionError:
                logging.getLogger("celery.beat").exception("Message Error")
        logging.getLogger("celery.beat").error("something else")
        logging.getLogger("shared.jobs").error("Connection lost, says one of ours")
        logging.getLogger("shared.jobs").error("Connection lost, says one of ours")
    finally:
        logging.root.handlers[:] = kept

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "Message Error",
        "something else",
        "Connection lost, says one of ours",
        "Connection lost, says one of ours",
    ]
