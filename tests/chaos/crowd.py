"""One of several processes that submit the same work at once.

It says "ready", and then for every line `key seconds count` that it is given the jobs' ids.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from shared.database.engine import reading, writing
from shared.errors import Unavailable
from shared.jobs import dispatch, ledger
from tests.chaos.tables import Order


def submit(kind: str, owner_id: str, key: str, seconds: float) -> str:
    """Submit or join, again while the database is busy; returns the job's id."""
    while True:
        try:
            with writing() as session:
                made = ledger.submit(session, kind=kind, owner_id=owner_id, item_id=None, key=key)
                if made.is_new:
                    session.add(Order(job_id=made.job_id, seconds=seconds, parts=0))
        except Unavailable:
            continue
        dispatch.ring(made)
        return made.job_id


def main() -> None:
    """The arguments are the kind of the jobs and their owner."""
    kind, owner_id = sys.argv[1:]
    with reading():
        pass  # connected before the start
    print("ready", flush=True)
    for line in sys.stdin:
        key, seconds, count = line.split()
        with ThreadPoolExecutor(int(count)) as threads:
            waiting = [
                threads.submit(submit, kind, owner_id, key, float(seconds))
                for _ in range(int(count))
            ]
        print(json.dumps([each.result() for each in waiting]), flush=True)


if __name__ == "__main__":
    main()
