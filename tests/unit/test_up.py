"""`make up`'s supervisor, with real processes in small stand-in Procfiles."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redis

from scripts import up
from shared.accounts.flower_password import flower_password
from shared.config import ROOT, load_settings

DRIVER = """
import sys
from pathlib import Path
from scripts import up
patience = up.Patience(first=0.05, longest=0.4, healthy_after=60, deaths=4, within=5, silent=3)
sys.exit(up.main(procfile=Path(sys.argv[1]), patience=patience))
"""

READY_UI = """
import http.server, os

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ready": true, "checks": []}')

    def log_message(self, *args):
        pass

http.server.HTTPServer(("127.0.0.1", int(os.environ["UI_PORT"])), Ready).serve_forever()
"""


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.02)


class Run:
    """One supervisor in a process of its own, as `make up` starts it."""

    def __init__(self, folder: Path, procfile: str, environ: dict[str, str]) -> None:
        self.home = Path(environ["BHARATVERSE_HOME"])
        (folder / "Procfile").write_text(procfile, encoding="utf-8")
        self._output = folder / f"output-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(folder / "Procfile")],
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def says(self, words: str) -> None:
        """Wait until these words are printed."""
        deadline = time.monotonic() + 15
        while words not in self.output:
            assert time.monotonic() < deadline, f"{words!r} is not in:\n{self.output}"
            time.sleep(0.02)

    def pids(self) -> dict[str, int]:
        try:
            records = json.loads((self.home / "run" / "processes.json").read_text())
        except FileNotFoundError:
            return {}
        return {name: record["pid"] for name, record in records.items()}

    def ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def stop(self) -> int:
        self.ctrl_c()
        return self.process.wait(timeout=30)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BHARATVERSE_HOME": str(tmp_path / "home"),
        "REDIS_URL": "",
        "DATABASE_URL": "",
        "UI_PORT": str(free_port()),
        "FLOWER_PORT": str(free_port()),
        "REDIS_PORT": str(free_port()),
    }


@pytest.fixture
def start(tmp_path: Path, environ: dict[str, str]) -> Iterator[Callable[[str], Run]]:
    runs: list[Run] = []

    def start_one(procfile: str) -> Run:
        runs.append(Run(tmp_path, procfile, environ))
        return runs[-1]

    yield start_one
    for run in runs:
        if run.process.poll() is None:
            run.ctrl_c()
            run.ctrl_c()
            run.process.wait(timeout=10)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# The Procfile


def test_the_procfile_is_read_in_order_and_without_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "Procfile"
    path.write_text("# what runs\nui: python -m ui\n\nbeat:  sh -c 'echo a:b'\n")

    entries = up.read_procfile(path)

    assert entries == [
        up.Entry("ui", ("python", "-m", "ui")),
        up.Entry("beat", ("sh", "-c", "echo a:b")),
    ]


@pytest.mark.parametrize("line", ["no colon here", "name:", ": command", "ui: sh -c 'open quote"])
def test_a_broken_line_of_the_procfile_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "Procfile"
    path.write_text(f"ui: true\n{line}\n")

    with pytest.raises(up.Refused, match="Procfile, line 2"):
        up.read_procfile(path)


def test_the_project_s_procfile_lists_the_promised_processes() -> None:
    names = [entry.name for entry in up.read_procfile(ROOT / "Procfile")]

    assert names == ["release", "ui", "worker-ai", "worker-speech", "worker-ops", "beat", "flower"]


# Back-off


def test_the_wait_doubles_up_to_the_longest() -> None:
    backoff = up.Backoff(up.Patience(deaths=100))

    waits = [backoff.died(now=second, lived=0.1)[0] for second in range(8)]

    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_process_that_lived_for_a_minute_starts_afresh() -> None:
    backoff = up.Backoff(up.Patience())
    for second in range(4):
        backoff.died(now=second, lived=0.1)

    wait, keeps_dying = backoff.died(now=70, lived=60)

    assert (wait, keeps_dying) == (1, False)


def test_five_deaths_within_two_minutes_are_said_once_and_tried_again_slowly() -> None:
    backoff = up.Backoff(up.Patience())

    deaths = [backoff.died(now=second * 10, lived=0.1) for second in range(7)]

    assert [said for _, said in deaths] == [False, False, False, False, True, False, False]
    assert [wait for wait, _ in deaths[4:]] == [30, 30, 30]


def test_five_deaths_over_a_long_time_are_not_called_dying() -> None:
    backoff = up.Backoff(up.Patience())

    deaths = [backoff.died(now=second * 31, lived=1) for second in range(6)]

    assert not any(said for _, said in deaths)


# Ports


def test_a_used_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]

        with pytest.raises(up.Refused) as refused:
            up.check_ports([up.Port("FLOWER_PORT", number, "127.0.0.1", "FLOWER_HOST")])

    assert f"Port {number} (FLOWER_PORT) is used by another program." in str(refused.value)


def test_two_settings_with_the_same_port_are_both_named() -> None:
    number = free_port()

    with pytest.raises(up.Refused, match=f"UI_PORT and FLOWER_PORT are both {number}"):
        up.check_ports(
            [up.Port("UI_PORT", number, "127.0.0.1"), up.Port("FLOWER_PORT", number, "127.0.0.1")]
        )


def test_an_address_that_this_machine_does_not_have_is_named() -> None:
    with pytest.raises(up.Refused, match=r"UI_HOST is '192\.0\.2\.1'"):
        up.check_ports([up.Port("UI_PORT", free_port(), "192.0.2.1", "UI_HOST")])


def test_free_ports_stay_free(environ: dict[str, str]) -> None:
    ports = up.ports_wanted(load_settings(environ))

    up.check_ports(ports)
    up.check_ports(ports)

    assert [port.setting for port in ports] == ["UI_PORT", "FLOWER_PORT", "REDIS_PORT"]


# The whole supervisor


def test_it_says_where_to_look_and_ctrl_c_stops_all_of_it(
    start: Callable[[str], Run], environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ui.py").write_text(READY_UI)
    home = tmp_path / "home"
    run = start(
        f"release: sh -c 'echo one-time-word > {home}/first-admin-password'\n"
        f"ui: python {tmp_path}/ui.py\n"
        "worker-ai: sh -c 'echo a line; echo another >&2; sleep 600'\n"
    )
    run.says("Ctrl-C stops all of it.")
    pids = run.pids()
    assert {name for name, pid in pids.items() if is_running(pid)} == {"redis", "ui", "worker-ai"}

    status = run.stop()

    assert status == 0
    assert not any(is_running(pid) for pid in pids.values())
    for words in (
        f"http://127.0.0.1:{environ['UI_PORT']}",
        f"http://127.0.0.1:{environ['FLOWER_PORT']}",
        "admin, password one-time-word",
        f"admin, password {(home / 'flower-password').read_text().strip()}",
        str(home),
    ):
        assert words in run.output
    assert "worker-ai | a line\n" in run.output
    assert (home / "log" / "worker-ai.log").read_text() == "a line\nanother\n"
    assert "one-time-word" not in (home / "log" / "up.log").read_text()
    assert "Traceback" not in run.output


def test_it_starts_again_on_the_data_of_the_last_run(start: Callable[[str], Run]) -> None:
    first = start("ui: sleep 600\n")
    first.says("Ready to accept connections")
    wait_for(lambda: "ui" in first.pids())
    first.stop()

    second = start("ui: sleep 600\n")
    second.says("DB loaded from append only file")

    assert second.stop() == 0


def test_a_second_start_says_so_and_does_no_harm(
    start: Callable[[str], Run], environ: dict[str, str]
) -> None:
    first = start("ui: sleep 600\n")
    wait_for(lambda: "ui" in first.pids())

    second = start("ui: sleep 600\n")

    assert second.process.wait(timeout=10) == 0
    assert f"already runs (pid {first.process.pid})" in second.output
    assert f"http://127.0.0.1:{environ['UI_PORT']}" in second.output
    assert all(is_running(pid) for pid in first.pids().values())
    assert first.stop() == 0


def test_a_used_port_stops_the_start_before_anything_runs(
    start: Callable[[str], Run], environ: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", int(environ["UI_PORT"]))):
        run = start(f"release: touch {tmp_path}/started\n")

        status = run.process.wait(timeout=10)

    assert status == 2
    assert run.output == (
        f"Port {environ['UI_PORT']} (UI_PORT) is used by another program. "
        "Stop that program, or set UI_PORT to a free port.\n"
    )
    assert not (tmp_path / "started").exists()


def test_an_invalid_setting_stops_the_start_with_its_sentence(
    start: Callable[[str], Run], environ: dict[str, str]
) -> None:
    environ["BATCH_SIZE"] = "many"

    run = start("ui: sleep 600\n")

    assert run.process.wait(timeout=10) == 2
    assert run.output.startswith("BATCH_SIZE is 'many'")


def test_an_unreachable_redis_url_is_named_without_its_password(
    start: Callable[[str], Run], environ: dict[str, str]
) -> None:
    environ["REDIS_URL"] = f"redis://:open-sesame@127.0.0.1:{free_port()}/0"

    run = start("ui: sleep 600\n")

    assert run.process.wait(timeout=10) == 2
    assert run.output.startswith("REDIS_URL redis://:***@127.0.0.1")
    assert "open-sesame" not in run.output


def test_a_home_that_cannot_be_used_is_named(
    start: Callable[[str], Run], environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environ["BHARATVERSE_HOME"] = str(tmp_path / "file" / "home")

    run = start("ui: sleep 600\n")

    assert run.process.wait(timeout=10) == 2
    assert run.output.startswith("BHARATVERSE_HOME ")


def test_a_failed_release_step_shows_its_own_words_and_stops_everything(
    start: Callable[[str], Run], tmp_path: Path
) -> None:
    run = start(
        "release: sh -c 'echo the schema is newer than this version; exit 7'\n"
        f"ui: touch {tmp_path}/started\n"
    )

    status = run.process.wait(timeout=15)

    assert status == 1
    assert "the schema is newer than this version" in run.output
    assert "the release step ended with exit status 7" in run.output
    assert not (tmp_path / "started").exists()
    assert not (run.home / "run" / "processes.json").exists()


def test_a_damaged_append_only_file_is_shown_to_the_operator(start: Callable[[str], Run]) -> None:
    first = start("ui: sleep 600\n")
    first.says("Ready to accept connections")
    wait_for(lambda: "ui" in first.pids())
    first.stop()
    next((first.home / "redis" / "appendonlydir").glob("*.incr.aof")).write_bytes(b"nonsense\r\n")

    second = start("ui: sleep 600\n")

    assert second.process.wait(timeout=15) == 1
    assert "the embedded server ended with exit status" in second.output
    assert "Bad file format reading the append only file" in second.output
    assert "move that folder away and start again: it holds only" in second.output


def test_a_dead_process_is_started_again(start: Callable[[str], Run]) -> None:
    run = start("ui: sleep 600\nworker-ai: sleep 600\n")
    wait_for(lambda: "worker-ai" in run.pids())
    first = run.pids()["worker-ai"]

    os.kill(first, signal.SIGKILL)
    run.says("worker-ai was ended by SIGKILL; it is started again in 0.05 s.")
    wait_for(lambda: run.pids()["worker-ai"] != first)

    assert is_running(run.pids()["worker-ai"])
    assert run.stop() == 0


@pytest.mark.parametrize(("name", "seconds"), [("ui", 0.0), ("worker-ai", 10.0)])
def test_the_children_of_a_dead_process_do_not_go_on_without_it(
    start: Callable[[str], Run], tmp_path: Path, name: str, seconds: float
) -> None:
    """Those of a worker may hand back their jobs first."""
    run = start(f"{name}: sh -c 'sleep 600 & echo $! > {tmp_path}/child; wait'\n")
    child = tmp_path / "child"
    wait_for(lambda: child.exists() and child.read_text().strip())
    pool_process = int(child.read_text())
    wait_for(lambda: name in run.pids())

    os.kill(run.pids()[name], signal.SIGKILL)
    killed_at = time.monotonic()

    wait_for(lambda: not is_running(pool_process), seconds=seconds + 8)
    assert time.monotonic() - killed_at >= seconds
    run.stop()


def test_a_stop_waits_for_no_orphans(start: Callable[[str], Run], tmp_path: Path) -> None:
    run = start(f"worker-ai: sh -c 'sleep 600 & echo $! > {tmp_path}/child; wait'\n")
    child = tmp_path / "child"
    wait_for(lambda: child.exists() and child.read_text().strip())
    pool_process = int(child.read_text())
    wait_for(lambda: "worker-ai" in run.pids())
    os.kill(run.pids()["worker-ai"], signal.SIGKILL)
    run.says("it is started again in")

    assert run.stop() == 0

    wait_for(lambda: not is_running(pool_process), seconds=1)


def test_a_process_that_keeps_dying_is_named_with_its_last_lines(
    start: Callable[[str], Run],
) -> None:
    run = start("ui: sleep 600\nbeat: sh -c 'echo no clock here; exit 3'\nflower: /no/such\n")

    run.says("beat KEEPS DYING: 4 times within 5 s. It ended with exit status 3")
    run.says("up     |   no clock here")
    run.says("flower could not be started: No such file or directory: /no/such")
    run.says("beat is tried again every 0.4 s.")

    assert is_running(run.pids()["ui"])
    assert run.stop() == 0


def test_the_workers_stop_after_the_others_and_redis_last(
    start: Callable[[str], Run], tmp_path: Path
) -> None:
    slow = (
        'sh -c \'trap "sleep 0.5; echo stopped; exit 0" TERM; '
        "echo up; while :; do sleep 0.05; done'"
    )
    run = start(f"worker-ai: {slow}\nui: {slow}\n")
    run.says("worker-ai | up")
    run.says("ui        | up")

    status = run.stop()

    assert status == 0
    lines = run.output
    assert lines.index("ui        | stopped") < lines.index("User requested shutdown")
    assert lines.index("worker-ai | stopped") < lines.index("User requested shutdown")


def test_a_second_ctrl_c_kills_what_does_not_stop(start: Callable[[str], Run]) -> None:
    run = start("ui: sh -c 'trap \"\" TERM; echo stubborn; while :; do sleep 0.05; done'\n")
    run.says("ui    | stubborn")
    pid = run.pids()["ui"]

    run.ctrl_c()
    run.says("Stopping all of it")
    run.ctrl_c()

    assert run.process.wait(timeout=5) == 0
    assert "ui is killed (hurried)." in run.output
    assert not is_running(pid)


def test_a_second_sigterm_does_not_hurry(start: Callable[[str], Run]) -> None:
    run = start(
        "ui: sh -c 'trap \"sleep 1; exit 0\" TERM; echo up; while :; do sleep 0.05; done'\n"
    )
    run.says("ui    | up")

    run.process.terminate()
    run.says("Stopping all of it")
    run.process.terminate()

    assert run.process.wait(timeout=10) == 0
    assert "killed" not in run.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that it died")
def test_a_killed_supervisor_leaves_nothing_running(start: Callable[[str], Run]) -> None:
    run = start("ui: sleep 600\nworker-ai: sleep 600\n")
    wait_for(lambda: "worker-ai" in run.pids())
    pids = run.pids().values()

    run.process.kill()
    run.process.wait(timeout=5)

    wait_for(lambda: not any(is_running(pid) for pid in pids), seconds=5)


# Frozen workers


def test_a_worker_is_silent_after_so_many_seconds_without_a_sign() -> None:
    signs = up.Signs(silent=45)

    found = [signs.silent({7: 0.5 if now < 1020 else now - 1020}, now=now)
             for now in range(1000, 1100, 5)]  # fmt: skip

    assert [place for place, pids in enumerate(found) if pids] == list(range(13, 20))
    assert found[13] == [7]


def test_a_sign_that_cannot_be_seen_any_more_counts_as_silence() -> None:
    signs = up.Signs(silent=45)

    found = [signs.silent({7: 1.0} if now < 1020 else {}, now=now) for now in range(1000, 1100, 5)]

    assert found.index([7]) == 12


def test_neither_a_sleeping_machine_nor_an_absent_redis_nor_a_start_is_a_silent_worker() -> None:
    asleep, without_redis, starting = (up.Signs(silent=45) for _ in range(3))
    for now in range(1000, 1060, 5):
        slept = 0 if now < 1020 else 3600
        assert asleep.silent({7: 1.0 + slept}, now=now + slept) == []
        assert without_redis.silent({7: 1.0} if now < 1020 else None, now=now) == []
        assert starting.silent({}, now=now) == []

    assert without_redis.silent({7: 58.0}, now=1060) == [], "it, too, has to reach Redis first"


SIGNS_OF_LIFE = """
import os, socket, time
from shared.observability import workers

while True:
    workers.publish(f"worker-ai@{socket.gethostname()}", pid=os.getpid(), queues=["ai"],
                    processes=1, active=0, done=0)
    print("alive", flush=True)
    time.sleep(0.2)
"""


@pytest.fixture
def run_with_a_worker(
    start: Callable[[str], Run], tmp_path: Path, environ: dict[str, str]
) -> Iterator[Run]:
    """A run that is ready, with a worker that gives signs of life; three seconds are too long."""
    (tmp_path / "ui.py").write_text(READY_UI)
    (tmp_path / "worker.py").write_text(SIGNS_OF_LIFE)
    run = start(f"ui: python {tmp_path}/ui.py\nworker-ai: python {tmp_path}/worker.py\n")
    run.says("Ctrl-C stops all of it.")
    run.says("worker-ai | alive")
    yield run
    assert run.stop() == 0


def test_a_frozen_worker_is_killed_started_anew_and_counted(
    run_with_a_worker: Run, environ: dict[str, str]
) -> None:
    run = run_with_a_worker
    frozen = run.pids()["worker-ai"]
    time.sleep(1)  # for a look of the supervisor

    os.kill(frozen, signal.SIGSTOP)

    run.says("worker-ai gave no sign of life for 3 s: it is killed.")
    run.says("worker-ai was ended by SIGKILL; it is started again")
    wait_for(lambda: run.pids()["worker-ai"] != frozen)
    key = f"workers:restarts:worker-ai@{socket.gethostname()}"
    wait_for(lambda: redis.Redis(port=int(environ["REDIS_PORT"])).get(key) == b"1")


def test_a_machine_that_slept_finds_all_its_workers_again(run_with_a_worker: Run) -> None:
    run = run_with_a_worker
    worker = run.pids()["worker-ai"]
    time.sleep(1)  # for a look of the supervisor

    for pid in (worker, run.process.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(run.process.pid, signal.SIGCONT)
    time.sleep(1)  # it looks before the worker has said a word
    os.kill(worker, signal.SIGCONT)
    time.sleep(3)

    assert run.pids()["worker-ai"] == worker
    assert "no sign of life" not in run.output


# Leftovers


def test_what_a_killed_supervisor_left_is_stopped_first(
    start: Callable[[str], Run], tmp_path: Path
) -> None:
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (tmp_path / "home" / "run").mkdir(parents=True)
    up.Records(tmp_path / "home" / "run" / "processes.json").write({"worker-ai": left.pid})

    run = start("ui: sleep 600\n")

    assert left.wait(timeout=10) == -signal.SIGTERM
    run.says(f"Stopping what an earlier run left behind: worker-ai (pid {left.pid}).")
    run.stop()


def test_a_stranger_under_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        path = tmp_path / "processes.json"
        records = up.Records(path)
        records.write({"worker-ai": stranger.pid})
        record = json.loads(path.read_text())
        record["worker-ai"]["create_time"] -= 60
        path.write_text(json.dumps(record))
        said: list[str] = []

        up.stop_leftovers(records, say=said.append, grace=1)

        assert said == []
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "{half", None])
def test_an_unreadable_record_stops_nothing(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "processes.json"
    if text is not None:
        path.write_text(text)

    assert up.Records(path).leftovers() == {}


# Logs, environment, Flower's password


def test_a_log_file_is_bounded_and_keeps_one_old_one(tmp_path: Path) -> None:
    log = up.LogFile(tmp_path / "ui.log", most=100)

    for number in range(100):
        log.line(b"line %d" % number)
    log.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["ui.log", "ui.log.1"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert (tmp_path / "ui.log").read_bytes().endswith(b"line 99\n")


def test_the_processes_find_the_venv_first_and_keep_the_operator_s_thread_cap() -> None:
    environ = up.child_environment({"PATH": "/usr/bin", "OMP_NUM_THREADS": "3", "LANG": "hi_IN"})

    assert environ == {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
        "OMP_NUM_THREADS": "3",
        "LANG": "hi_IN",
        "PYTHONUNBUFFERED": "1",
    }


def test_what_readyz_misses_is_told_in_words() -> None:
    body = json.dumps(
        {
            "ready": False,
            "checks": [
                {"name": "redis", "ok": True, "detail": "1 ms", "remedy": ""},
                {"name": "queue ai", "ok": False, "detail": "no task", "remedy": "Start it."},
            ],
        }
    )

    assert up._missing(body.encode()) == "queue ai: no task Start it."


def _password_in(home: str) -> str:
    return flower_password(load_settings({"BHARATVERSE_HOME": home}))


def test_processes_that_race_for_flower_s_password_get_the_same_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(max_workers=4) as pool:
        passwords = set(pool.map(_password_in, [str(tmp_path)] * 16))

    assert len(passwords) == 1
    assert len(passwords.pop()) >= 16
    assert (tmp_path / "flower-password").stat().st_mode & 0o777 == 0o600


def test_flower_password_from_the_settings_writes_no_file(tmp_path: Path) -> None:
    settings = load_settings({"BHARATVERSE_HOME": str(tmp_path), "FLOWER_PASSWORD": "chosen"})

    assert flower_password(settings) == "chosen"
    assert not (tmp_path / "flower-password").exists()
