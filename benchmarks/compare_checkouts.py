"""Two checkouts of conch side by side: what a change costs; `results/checkouts.json`.

    python benchmarks/compare_checkouts.py OLD NEW [--rounds 4] [--seconds 4]

runs `benchmarks/run.py` of each checkout by turns, with the Python of its `.venv`, for conch's own systems. Rounds
alternate, so that a slow minute of the machine falls on both. A ratio is that of the medians over the rounds, new by
old: above 1 the new one computes more tokens a second. Beside it are the lowest and the highest ratio of a single
round: if 1 lies between them, the difference may be the machine's. The result has both checkouts' tokens a second of
every round, and how many cores other processes used meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import machine, results

if TYPE_CHECKING:
    from benchmarks.results import Result

RESULT = results.FOLDER / "checkouts.json"
SYSTEMS = ("graphs", "triton", "gateway", "gateway-bulk", "triton-one", "gateway-one")


def measured(checkout: Path, seconds: float, output: Path) -> Result:
    """Run one round of a checkout's own benchmark."""
    python = checkout / ".venv" / "bin" / "python"
    options = ["--systems", *SYSTEMS, "--no-studies", "--rounds", "1", "--seconds", str(seconds)]
    command = [str(python), "benchmarks/run.py", *options, "--output", str(output)]
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    return results.load(output)


def compared(old: list[Result], new: list[Result]) -> list[dict[str, Any]]:
    """One record for each system and workload that both measured."""
    pairs = sorted({(record["system"], record["workload"]) for record in new[0]["rounds"]})
    records = []
    for system, workload in pairs:
        speeds = [[results.tokens_per_s(result, system, workload) for result in runs] for runs in (old, new)]
        others = [[_others_cores(result, system, workload) for result in runs] for runs in (old, new)]
        by_round = [after / before for before, after in zip(*speeds, strict=True)]
        records.append(
            {
                "system": system,
                "workload": workload,
                "old": speeds[0],
                "new": speeds[1],
                "old_others_cores": others[0],
                "new_others_cores": others[1],
                "ratio": median(speeds[1]) / median(speeds[0]),
                "ratio_by_round": {"lowest": min(by_round), "highest": max(by_round)},
            }
        )
    return records


def _others_cores(result: Result, system: str, workload: str) -> float:
    """Return the cores that other processes used during the measurements."""
    found = [r["others_cores"] for r in result["rounds"] if (r["system"], r["workload"]) == (system, workload)]
    return max(found, default=math.nan)


def main() -> None:
    """Measure, print a table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs=2, metavar=("OLD", "NEW"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4)
    chosen = parser.parse_args()
    runs: list[list[Result]] = [[], []]
    scratch = machine.ROOT / ".run" / "checkouts.json"
    for number, side in itertools.product(range(chosen.rounds), (0, 1)):
        # Old, new, new, old: neither is always the first after the other.
        which = side ^ (number % 2)
        runs[which].append(measured(chosen.checkouts[which].resolve(), chosen.seconds, scratch))
    records = compared(*runs)
    options = f"--rounds {chosen.rounds} --seconds {chosen.seconds:g}"
    result = {
        **machine.measured_by(f"python benchmarks/compare_checkouts.py OLD NEW {options}"),
        "old": runs[0][0]["git"],
        "new": runs[1][0]["git"],
        "records": records,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("system", "workload", "old tokens/s", "new tokens/s", "ratio", "of single rounds")
    for record in records:
        speeds = (f"{median(record[side]):,.0f}" for side in ("old", "new"))
        by_round = "{lowest:.3f} to {highest:.3f}".format(**record["ratio_by_round"])
        table.add_row(record["system"], record["workload"], *speeds, f"{record['ratio']:.3f}", by_round)
    Console().print(table)


if __name__ == "__main__":
    main()
