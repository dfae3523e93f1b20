"""Contributing to the suite's archive from this process, as `bharatverse import` does it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select, update

from bench.rows import NotMeasured
from shared.accounts import users
from shared.archive import items
from shared.database.engine import reading, writing
from shared.database.models import LIVE, Job, JobState, Visibility
from shared.jobs import progress
from shared.queue import depths

LONGEST_WAIT = 180.0  # seconds

#: A short story in each of three languages and scripts, as people write them.
STORIES = {
    "hi": "एक समय की बात है, गंगा के किनारे एक छोटा सा गाँव था। वहाँ हर साल दीपावली पर लोग मिट्टी के "
    "दीये बनाते थे। दादी माँ बच्चों को राजा विक्रम की कहानियाँ सुनाती थीं।",
    "ta": "எங்கள் கிராமத்தில் பொங்கல் திருநாள் மிகவும் சிறப்பாகக் கொண்டாடப்படுகிறது. புதிய அரிசியில் "
    "பொங்கல் வைத்து சூரியனுக்குப் படைக்கிறோம். மாடுகளுக்கு மாலை அணிவித்து மகிழ்கிறோம்.",
    "en": "My grandmother spun cotton on the veranda every evening. She sang the songs of the "
    "monsoon that her mother had taught her. We children learnt them before we could read.",
}


def contribute(number: int, *, text: str, language: str | None = None) -> items.Contributed:
    """Contribute one text that is like no other; raises `NotMeasured` when it was not rung."""
    made = items.contribute(
        users.operator(),
        title=f"A story for measuring, number {number}",
        text=f"{text} {number}",
        language=language,
        visibility=Visibility.PUBLIC,
    )
    if not made.rung:
        raise NotMeasured("a contribution could not be rung; Redis did not take it.")
    return made


def wait_until_enriched(job_ids: Sequence[str]) -> None:
    """Return when these jobs are DONE; raises `NotMeasured` when one ends otherwise, or never."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        seen = progress.read(job_ids)
        for job in seen.values():
            if job.state not in (JobState.DONE, *LIVE):
                raise NotMeasured(f"a job ended as {job.state.value}: {job.error}")
        if all(job.state is JobState.DONE for job in seen.values()):
            return
        if time.monotonic() > deadline:
            raise NotMeasured(f"the enrichment was not done within {LONGEST_WAIT:g} s.")
        time.sleep(0.02)


def fill(count: int) -> None:
    """Contribute so many items without their enrichment, which would take minutes."""
    languages = list(STORIES)
    for number in range(count):
        language = languages[number % len(languages)]
        contribute(number, text=STORIES[language], language=language)
    with writing() as session:
        waiting = update(Job).where(Job.state == JobState.QUEUED)
        session.execute(waiting.values(state=JobState.CANCELLED))
    deadline = time.monotonic() + LONGEST_WAIT
    while depths()["ai"] or _anything_runs():
        if time.monotonic() > deadline:
            raise NotMeasured("the workers did not come to rest.")
        time.sleep(0.1)


def _anything_runs() -> bool:
    with reading() as session:
        return session.scalar(select(Job.id).where(Job.state.in_(LIVE)).limit(1)) is not None
