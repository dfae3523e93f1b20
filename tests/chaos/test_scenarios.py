"""Each scenario in short; `make chaos` plays them at length."""

from __future__ import annotations

from tests.chaos import beat, crowds, disk, freezing, killing, memory, outages, stopping, tasks
from tests.chaos.conftest import check, on_both, on_postgresql
from tests.chaos.harness import Stage


@on_both
def test_a_killed_worker_loses_no_job(stage: Stage) -> None:
    check(killing.killed_workers(stage, rounds=2, jobs=8, lease=2.0))


def test_redis_may_die_under_load_and_come_back_empty(stage: Stage) -> None:
    check(outages.redis_dies(stage, rounds=2, jobs=50, over=5.0, settle=0.3))


@on_both
def test_no_saved_job_is_lost_while_the_database_is_away(stage: Stage) -> None:
    check(outages.database_away(stage, rounds=1, jobs=20, seconds=4.0))


def test_the_late_result_of_a_frozen_process_is_refused(stage: Stage) -> None:
    check(freezing.frozen_workers(stage, rounds=1, victims=["process"]))


def test_a_job_longer_than_all_time_outs_runs_once(stage: Stage) -> None:
    check(freezing.long_jobs(stage, seconds=12.0))


@on_postgresql
def test_poison_is_set_aside_and_the_innocent_are_done(stage: Stage) -> None:
    check(killing.poison(stage, kinds=[tasks.KILLS_PROCESS], innocent=4, after=20))


@on_postgresql
def test_fifty_identical_submits_make_one_call(stage: Stage) -> None:
    check(crowds.identical_submits(stage, rounds=2))


def test_a_contribution_without_redis_is_saved_and_enriched_later(stage: Stage) -> None:
    check(outages.contribute_without_redis(stage))


def test_beat_makes_up_for_nothing_after_an_hour(stage: Stage) -> None:
    check(beat.beat_after_an_hour(stage))


def test_a_full_disk_loses_nothing(stage: Stage) -> None:
    check(disk.full_disk(stage, jobs=10, redis=False))


def test_a_stopped_worker_keeps_its_progress(stage: Stage) -> None:
    check(stopping.stopped_worker(stage, rounds=1, parts=5))


def test_failing_jobs_leave_no_memory_behind(stage: Stage) -> None:
    check(memory.failing_jobs(stage, failing=100, retried=20))


def test_an_import_holds_up_nobody_else(stage: Stage) -> None:
    check(crowds.fairness(stage, imported=150, watched=60, singles=3))
