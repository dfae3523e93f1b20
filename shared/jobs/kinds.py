"""What is known about each kind of job: where it runs, how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import get_settings

#: The name of the job that enriches a text.
ENRICH_TEXT = "ai.enrich_text"

#: Seconds between the two limits of a job: to write down why it ended, before it is killed.
GRACE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of job. Its name is the Celery task's name, and begins with its queue's."""

    name: str
    soft_limit: float  # seconds; then the work is interrupted and the job is FAILED
    tries: int = 3  # with errors that time may mend

    @property
    def queue(self) -> str:
        """The kind of work: "ai"."""
        return self.name.partition(".")[0]

    @property
    def hard_limit(self) -> float:
        """Seconds; then its process is killed, whatever it does."""
        return self.soft_limit + GRACE


def kind_of(name: str) -> Kind:
    """The kind by its task's name."""
    settings = get_settings()
    limits = {"speech": settings.speech_timeout_seconds}
    queue = name.partition(".")[0]
    return Kind(name=name, soft_limit=limits.get(queue, settings.task_timeout_seconds))
