"""Which workers live, and what each is doing, by their own word.

The parent process of every worker publishes an entry in Redis every 5 seconds. It is a sign of
life of the parent only: that a queue is consumed is proved by canaries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.redis_client import REDIS_ERRORS, RedisUnavailable, client

#: Seconds between two signs of life of a worker.
INTERVAL = 5.0
#: Seconds after which a worker that gave no sign is listed no more.
EXPIRES = 60
#: Seconds after which a worker that gave no sign counts as silent: several were missed.
SILENT = 15.0
#: Seconds for which a restart of a worker is remembered: a week.
REMEMBERED = 7 * 86_400

_NAMES_KEY = "workers:names"
_ENTRY_KEY = "workers:entry:{}"
_RESTARTS_KEY = "workers:restarts:{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as it described itself last."""

    name: str  # "worker-ai@host"
    pid: int  # of the parent process, on its own machine
    queues: tuple[str, ...]
    processes: int
    active: int  # tasks that run
    done: int  # tasks that were begun since its start, in total
    age: float  # seconds since this was said
    restarts: int  # how often it was deaf or frozen and had to be restarted, within a week

    @property
    def is_silent(self) -> bool:
        """Whether it missed several signs of life."""
        return self.age > SILENT

    @property
    def is_busy(self) -> bool:
        """Whether it lives and all its processes work."""
        return not self.is_silent and self.active >= self.processes


def publish(
    name: str, *, pid: int, queues: Sequence[str], processes: int, active: int, done: int
) -> None:
    """Give a sign of life; raises one of `REDIS_ERRORS`."""
    entry = {
        "pid": pid,
        "queues": list(queues),
        "processes": processes,
        "active": active,
        "done": done,
    }
    pipe = client().pipeline(transaction=False)
    pipe.set(_ENTRY_KEY.format(name), json.dumps(entry), ex=EXPIRES)
    pipe.zadd(_NAMES_KEY, {name: time.time()})
    pipe.zremrangebyscore(_NAMES_KEY, "-inf", time.time() - 100 * EXPIRES)
    pipe.execute()


def forget(name: str, *, pid: int) -> None:
    """This worker stops in order, unless another one has its name by now; raises `REDIS_ERRORS`."""
    entry: Any = client().get(_ENTRY_KEY.format(name))
    worker = _read(name, entry, left=EXPIRES * 1000, restarts=0)
    if worker is None or worker.pid == pid:
        client().delete(_ENTRY_KEY.format(name))


def count_restart(name: str) -> None:
    """Note that this worker has to be restarted; raises one of `REDIS_ERRORS`."""
    pipe = client().pipeline()
    pipe.incr(_RESTARTS_KEY.format(name))
    pipe.expire(_RESTARTS_KEY.format(name), REMEMBERED)
    pipe.execute()


def all_workers() -> list[Worker]:
    """The workers that gave a sign of life within a minute, by name; raises `RedisUnavailable`.

    An entry that cannot be read is left out: its worker writes it anew within 5 seconds.
    """
    try:
        names: Any = client().zrange(_NAMES_KEY, 0, -1)
        pipe = client().pipeline(transaction=False)
        for name in (found.decode(errors="replace") for found in names):
            pipe.get(_ENTRY_KEY.format(name))
            pipe.pttl(_ENTRY_KEY.format(name))
            pipe.get(_RESTARTS_KEY.format(name))
        answers = pipe.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        raise RedisUnavailable() from error
    workers = []
    for place, found in enumerate(names):
        entry, left, restarts = answers[place * 3 : place * 3 + 3]
        worker = _read(found.decode(errors="replace"), entry, left=left, restarts=restarts)
        if worker is not None:
            workers.append(worker)
    return sorted(workers, key=lambda worker: worker.name)


def _read(name: str, entry: Any, *, left: Any, restarts: Any) -> Worker | None:
    """The worker of an entry with so many milliseconds left to live."""
    try:
        said = json.loads(entry)
        return Worker(
            name=name,
            pid=int(said["pid"]),
            queues=tuple(map(str, said["queues"])),
            processes=int(said["processes"]),
            active=int(said["active"]),
            done=int(said["done"]),
            # By Redis's clock: the worker's may be another machine's.
            age=max(0.0, EXPIRES - int(left) / 1000),
            restarts=int(restarts or 0),
        )
    except (TypeError, ValueError, KeyError):
        return None
