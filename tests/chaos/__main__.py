"""`make chaos`: every scenario at length; see `--help`.

Exit status: 0 when every promise was kept, 1 when a job was lost, doubled or late, or another
promise was broken, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.harness import POSTGRESQL, SQLITE, Result, Stage, theatre
from tests.chaos.scenarios import SCENARIOS, Scenario

_COLUMNS = "{:>3}  {:<44} {:<10} {:>6} {:>6} {:>5} {:>8} {:>11}  {}"


def main() -> int:
    """Run the chosen scenarios; returns the exit status."""
    options = _options()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", flush=True)
    databases = [SQLITE, POSTGRESQL] if options.database == "both" else [options.database]
    print(
        _COLUMNS.format("", "scenario", "database", "rounds", "jobs", "lost", "doubled",
                        "slowest (s)", "verdict"),
        flush=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    try:
        with theatre(keep_logs=options.logs) as stage:
            for scenario in SCENARIOS:
                if options.only and scenario.number not in options.only:
                    continue
                for kind in databases:
                    rows.append(
                        _play(
                            scenario,
                            stage(kind, f"{seed} {scenario.number} {kind}"),
                            rounds=options.rounds,
                        )
                    )
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    finally:
        if options.json is not None:
            options.json.write_text(json.dumps({"seed": seed, "rows": rows}, indent=2))
    return 0 if all(row["is_good"] for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the chance of another run, to repeat it")
    parser.add_argument(
        "--only",
        type=lambda text: {int(number) for number in text.split(",")},
        help="numbers of scenarios: 1,2,6",
    )
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL, "both"], default="both")
    parser.add_argument("--rounds", type=int, help="instead of each scenario's own number")
    parser.add_argument("--json", type=Path, help="the rows, into this file")
    parser.add_argument("--logs", type=Path, help="keep the workers' logs in this folder")
    return parser.parse_args()


def _play(scenario: Scenario, stage: Stage, *, rounds: int | None) -> dict[str, Any]:
    """Run one scenario and print its line."""
    stage.say(f"{scenario.number}. {scenario.title}, {stage.kind}")
    settings = dict(scenario.long)
    if rounds is not None and "rounds" in settings:
        settings["rounds"] = rounds
    started = time.monotonic()
    try:
        result = scenario.play(stage, **settings)
    except Exception as error:  # noqa: BLE001 - the others are still played
        traceback.print_exc()
        result = Result(limit=0.0, broken=[f"the scenario failed: {error!r}"[:300]])
    took = time.monotonic() - started
    print(
        _COLUMNS.format(
            scenario.number, scenario.title, stage.kind, result.rounds, result.jobs, result.lost,
            result.doubled, f"{result.slowest:.1f}",
            "; ".join([result.verdict, *result.notes]) + f" [{took:.0f} s]",
        ),
        flush=True,
    )  # fmt: skip
    return {
        "scenario": scenario.number,
        "title": scenario.title,
        "database": stage.kind,
        "verdict": result.verdict,
        "is_good": result.is_good,
        "seconds": round(took, 1),
        **asdict(result),
    }


if __name__ == "__main__":
    # The processes that the suite starts find its modules, and each other's, from here.
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())
