"""The performance suite's own parts: its arguments, rows, verdicts and table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from shared.config import ROOT, Settings
from shared.database.engine import reading
from shared.errors import Unavailable

sys.path.insert(0, str(ROOT / "scripts"))  # as for a script that is started there

import performance_test as suite
from bench.archive import free_ports, own_settings
from bench.rows import Figure, NotMeasured, Row, median, p95, single, table
from bench.servers import _running
from bench.statements import watched

NO_ARCHIVE: Any = None  # for areas that need none


@pytest.fixture
def areas(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A suite without areas, to put some into."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(suite, "AREAS", made)
    return made


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "performance_test.py"), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_area_is_measured_unless_some_are_named() -> None:
    assert suite.parse([]).only == ["start", "memory", "jobs", "pages", "ledger"]
    assert suite.parse(["--only", "pages, start"]).only == ["start", "pages"]
    assert suite.parse(["--quick"]).quick


@pytest.mark.parametrize("wrong", ["speed", "pages,speed", "", ","])
def test_an_unknown_area_is_refused_with_the_names_of_the_known_ones(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        suite.parse(["--only", wrong])

    assert refused.value.code == 2
    assert "the areas are start, memory, jobs, pages, ledger" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        suite.parse(["--json", str(tmp_path / "missing" / "rows.json")])

    assert refused.value.code == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_an_invalid_setting_stops_the_suite_with_its_sentence() -> None:
    ended = run("--only", "jobs", BATCH_SIZE="many")

    assert ended.returncode == 2
    assert "BATCH_SIZE is 'many' (from the environment)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_suite_keeps_away_from_every_other_archive(tmp_path: Path) -> None:
    own = own_settings(tmp_path)

    assert own["BHARATVERSE_HOME"] == str(tmp_path)
    assert own["DATABASE_URL"] == own["REDIS_URL"] == own["WARMUP_URLS"] == ""
    assert len({own["UI_PORT"], own["FLOWER_PORT"], own["REDIS_PORT"]}) == 3
    assert set(own) <= {name.upper() for name in Settings.__dataclass_fields__}


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_figures_carry_their_spread() -> None:
    assert median([3.0, 1.0, 10.0]) == Figure(3.0, low=1.0, high=10.0)
    assert median([1.0, 2.0]).value == 1.5
    assert p95([float(number) for number in range(101)]) == Figure(95.0, low=0.0, high=100.0)
    assert single(7.0) == Figure(7.0, low=7.0, high=7.0)


def test_p95_of_few_samples_is_none_that_never_was() -> None:
    assert 1.0 < p95([1.0, 1.0, 1.0, 9.0]).value <= 9.0


def test_with_a_reference_the_bounds_are_of_the_ratio() -> None:
    row = Row(name="page", value=single(1300), reference=single(1000), aim=1.15, must=1.5)

    assert row.ratio == 1.3
    assert (row.ok, row.verdict) == (True, "aim missed")


def test_without_a_reference_the_bounds_are_of_the_value() -> None:
    def start(seconds: float) -> Row:
        return Row(name="start", value=single(seconds), aim=8, must=15)

    assert (start(8).ok, start(8).verdict) == (True, "ok")
    assert (start(9).ok, start(9).verdict) == (True, "aim missed")
    assert (start(16).ok, start(16).verdict) == (False, "MISSED")
    assert start(16).ratio is None


def test_where_more_is_better_the_bounds_are_lower_ones() -> None:
    def speed(jobs: float) -> Row:
        return Row(
            name="jobs",
            unit="jobs/s",
            value=single(jobs),
            reference=single(100),
            aim=0.6,
            must=0.35,
            more_is_better=True,
        )

    assert (speed(60).ok, speed(60).verdict) == (True, "ok")
    assert (speed(59).ok, speed(59).verdict) == (True, "aim missed")
    assert (speed(34).ok, speed(34).verdict) == (False, "MISSED")
    assert set(speed(60).as_json()) == set(Row(name="other").as_json())
    assert ">= 0.6 x  >= 0.35 x  ok" in table([speed(60)])


def test_a_row_without_bounds_is_in_order_and_says_nothing() -> None:
    row = Row(name="memory", value=single(10))

    assert (row.ok, row.verdict) == (True, "")


def test_the_json_form_of_a_row_is_the_promised_one() -> None:
    row = Row(
        name="page", unit="ms", value=single(1234.5678), reference=single(1000), aim=1.15, must=1.5
    )

    assert row.as_json() == {
        "name": "page",
        "value": 1234.568,
        "unit": "ms",
        "reference": 1000,
        "ratio": 1.235,
        "aim": 1.15,
        "must": 1.5,
        "ok": True,
    }
    assert Row(name="page", note="no browser").as_json() == {
        "name": "page",
        "value": None,
        "unit": "",
        "reference": None,
        "ratio": None,
        "aim": None,
        "must": None,
        "ok": None,
    }


def test_the_table_lines_its_columns_up() -> None:
    rows = [
        Row(name="a start", unit="s", value=Figure(9.25, 8, 11), aim=8, must=15, note="a note"),
        Row(
            name="a page",
            unit="ms",
            value=single(1200),
            reference=Figure(1000, 900, 1100),
            must=1.5,
        ),
        Row(name="memory: the rest", note="there is no reason"),
    ]

    assert table(rows).splitlines() == [
        "measured             value  min..max  reference    min..max   ratio  aim   must",
        "a start             9.25 s     8..11                                   8     15  "
        "aim missed; a note",
        "a page            1,200 ms                1,000  900..1,100  1.20 x       1.5 x  ok",
        "memory: the rest         -                                                       "
        "not measured: there is no reason",
    ]


def test_what_was_measured_before_something_failed_is_kept(areas: dict[str, Any]) -> None:
    def half(_archive: object, *, quick: bool) -> Iterator[Row]:
        yield Row(name="half: one", value=single(1.0 if quick else 2.0))
        raise NotMeasured("the other half is away.")

    def none(_archive: object, *, quick: bool) -> Iterator[Row]:
        raise Unavailable("The database does not answer.")
        yield

    areas |= {"half": half, "none": none}
    rows = suite.measure(["half", "none"], NO_ARCHIVE, quick=True)

    assert [(row.name, row.ok) for row in rows] == [
        ("half: one", True), ("half: the rest", None), ("none", None)
    ]  # fmt: skip
    assert rows[1].verdict == "not measured: the other half is away."
    assert rows[2].verdict == "not measured: The database does not answer."


def test_the_databases_time_counts_the_rows_that_are_fetched(
    configure: Callable[..., Settings],
) -> None:
    configure()
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
        "SELECT i FROM n"
    )

    with watched() as statements, reading() as session:
        statements.forget()
        assert (statements.seconds, statements.count) == (0.0, 0)

        result = session.execute(text(numbers))
        asked = statements.seconds
        assert len(result.all()) == 200_000

        assert statements.seconds > 2 * asked > 0
        assert statements.count == 1


def test_a_server_of_the_suite_ends_with_whoever_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    others = set(psutil.Process().children())  # servers of other tests

    with (
        pytest.raises(KeyboardInterrupt),
        _running(command, log=tmp_path / "a.log", ready=lambda: True),
    ):
        mine = set(psutil.Process().children()) - others
        raise KeyboardInterrupt

    assert mine
    assert not any(process.is_running() for process in mine)


def test_a_server_that_does_not_start_is_a_figure_not_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('there is no such port')"]

    with (
        pytest.raises(NotMeasured, match="a did not start: there is no such port"),
        _running(command, log=tmp_path / "a.log", ready=lambda: False),
    ):
        pass


def test_the_exit_status_tells_a_missed_bound_from_a_missing_figure() -> None:
    kept = Row(name="kept", value=single(1), aim=0.5, must=2)
    missed = Row(name="missed", value=single(3), must=2)
    unknown = Row(name="unknown", note="no reason")

    assert suite.status([kept]) == 0
    assert suite.status([kept, unknown]) == 2
    assert suite.status([kept, unknown, missed]) == 1
