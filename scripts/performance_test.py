"""The performance suite: measures the archive, prints ONE table.

python scripts/performance_test.py [--quick] [--only AREA,...] [--json FILE]

It runs an archive of its own (temporary home, free ports) through `scripts/up.py`, and stops it at
the end. Times depend on the machine; where it can, a row therefore has a reference that was
measured beside it in the same run, and is judged by the ratio.

Exit status: 0 when every bound was kept, 1 when a `must` was missed, 2 when something could not be
measured or the command line is wrong, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Protocol

import celery

from bench import jobs, ledger, memory, pages, start
from bench.archive import Archive, own_settings
from bench.rows import NotMeasured, Row, table
from shared.config import ROOT, cores_granted
from shared.errors import BharatVerseError
from shared.observability.logging import configure_logging


class Area(Protocol):
    """A part of the suite: yields its rows as they are measured, or raises `NotMeasured`."""

    def __call__(self, archive: Archive, *, quick: bool) -> Iterator[Row]: ...


#: In the order in which they run: the later ones use what the earlier ones left running, but for
#: the last one, which stops it and has servers of its own.
AREAS: dict[str, Area] = {
    "start": start.measure,
    "memory": memory.measure,
    "jobs": jobs.measure,
    "pages": pages.measure,
    "ledger": ledger.measure,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite; the exit status stands in the module's docstring."""
    options = parse(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores SIGHUP, and means it
            signal.signal(number, _stop)
    # Progress goes to stderr, and of the log only what is wrong.
    configure_logging("ERROR")
    try:
        with TemporaryDirectory(prefix="bharatverse-bench-") as folder:
            os.environ.update(own_settings(Path(folder) / "home"))
            print(header(quick=options.quick), flush=True)
            with Archive() as archive:
                rows = measure(options.only, archive, quick=options.quick)
    except BharatVerseError as error:  # a setting of whoever runs it
        print(error.sentence, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; everything that was started has ended.", file=sys.stderr)
        return 130
    print(table(rows))
    if options.json is not None:
        document = json.dumps([row.as_json() for row in rows], indent=1)
        options.json.write_text(document + "\n", encoding="utf-8")
    return status(rows)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options `quick`, `only` (areas in running order) and `json`; exits 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        description="Measure BharatVerse: prints one table.",
        epilog="Exit status: 0 all bounds kept, 1 a 'must' missed, 2 something not measured.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer samples: about 4 minutes instead of 12"
    )
    parser.add_argument(
        "--only",
        metavar="AREA,...",
        type=_areas,
        default=list(AREAS),
        help=f"some of: {', '.join(AREAS)}",
    )
    parser.add_argument(
        "--json", metavar="FILE", type=_writable, help="also write the rows there, as JSON"
    )
    return parser.parse_args(argv)


def _areas(text: str) -> list[str]:
    wanted = {word.strip() for word in text.split(",")} - {""}
    unknown = sorted(wanted - set(AREAS))
    if unknown or not wanted:
        wrong = f"'{unknown[0]}' is no area" if unknown else "no area is named"
        raise argparse.ArgumentTypeError(f"{wrong}; the areas are {', '.join(AREAS)}")
    return [area for area in AREAS if area in wanted]


def _writable(text: str) -> Path:
    path = Path(text)
    try:
        path.open("a").close()  # better said now than at the end
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {error.strerror}") from error
    return path


def header(*, quick: bool) -> str:
    """What was measured and on what, without which no figure means anything."""
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    text = (
        f"BharatVerse in {ROOT}, {'quick' if quick else 'full'} run\n"
        f"{cores_granted()} cores{load}, Python {platform.python_version()}, "
        f"{platform.platform(terse=True)}, {platform.machine()}\n"
    )
    if not Path(cache_from_source(celery.__file__)).exists():
        # Every process then compiles what it imports: three times the work of a start.
        text += (
            "The packages are not compiled, so every start is slower than after `make setup`. "
            "Mend it: python -m compileall, and unset PYTHONDONTWRITEBYTECODE.\n"
        )
    return text


def measure(areas: Sequence[str], archive: Archive, *, quick: bool) -> list[Row]:
    """The rows of these areas; what could not be measured is a row, too, with the reason."""
    rows = []
    for area in areas:
        print(f"Measuring {area} ...", file=sys.stderr, flush=True)
        name = area
        try:
            for row in AREAS[area](archive, quick=quick):
                rows.append(row)
                name = f"{area}: the rest"
        except NotMeasured as why:
            rows.append(Row(name=name, note=str(why)))
        except BharatVerseError as error:
            rows.append(Row(name=name, note=error.sentence))
    return rows


def status(rows: Sequence[Row]) -> int:
    """The exit status that these rows deserve."""
    verdicts = {row.ok for row in rows}
    if False in verdicts:
        return 1
    return 2 if None in verdicts else 0


def _stop(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
