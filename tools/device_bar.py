"""Run one search on many devices: python -m tools.device_bar --out=/tmp/devices [--config.KEY=VALUE ...].

For each layout of devices there are two runs of `launch.search`: one of a few outer steps, whose weights are compared,
and the whole search, whose best genotype and accuracies of `best` and `adapted` are, inductive and transductive. What
does not change with the search, the control and the other rows of the meta-test, is left out. Prints a table, writes
device_bar.json, and ends with status 1 where a layout does not hold the bars. Runs that are finished are read.

XLA splits long sums of a CPU over as many threads as there are cores, or devices where they are more, so that their
last bits depend on that number. It is made the same for all layouts, as on a machine with a core for each device.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WEIGHTS, ACCURACY = 1e-5, 1e-4  # largest differences from one device
ROWS = ("best", "adapted")
SEARCH = (f"--config.meta_test.rows={ROWS}", "--config.meta_test.conv4=False", "--config.log.random_search=False")
STEPS = (
    *("--config.train.chunk=10", "--config.search.generations=2", "--config.protocol.episodes=2"),
    "--config.adapt.trials=0",
    *("--config.meta_test.rows=('best',)", "--config.meta_test.other_normalisation=False", *SEARCH[1:]),
)


class Layout(NamedTuple):
    """Devices of a process, their mesh, and processes; an empty mesh is the default one."""

    devices: int
    mesh: str = ""
    processes: int = 1


LAYOUTS = {
    "1": Layout(1),
    "2": Layout(2),
    "4": Layout(4),
    "4=2x2": Layout(4, "tasks:2,population:2"),
    "8=2x4": Layout(8, "tasks:2,population:4"),
    "8=1x8": Layout(8, "tasks:1,population:8"),
    "2 processes": Layout(2, "tasks:2,population:2", 2),
}


def commands(layout: Layout, config: str, workdir: Path, flags: list[str]) -> list[list[str]]:
    """Return what each process of a run is started by."""
    call = [sys.executable, "-m", "launch.search", f"--config={config}", f"--workdir={workdir}", "--quiet"]
    call += [f"--cpu_devices={layout.devices}", f"--mesh={layout.mesh}", *flags]
    if layout.processes == 1:
        return [call]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = [f"--coordinator=127.0.0.1:{free.getsockname()[1]}", f"--processes={layout.processes}"]
    return [[*call, *meet, f"--process={process}"] for process in range(layout.processes)]


def run(calls: list[list[str]], workdir: Path, threads: int) -> None:
    """Run a search to its end, unless it is finished; raises RuntimeError where it fails."""
    if (workdir / "results.json").exists():
        return
    os.makedirs(workdir, exist_ok=True)
    with open(workdir / "said.txt", "w", encoding="utf-8") as said:
        environment = os.environ | ({"NPROC": str(threads)} if threads else {})
        started = [subprocess.Popen(call, stdout=said, stderr=said, env=environment) for call in calls]
        if any(status for status in [process.wait() for process in started]):
            raise RuntimeError(f"{' '.join(calls[0])} failed; see {said.name}")


def outcome(workdir: Path) -> dict[str, Any]:
    """Return the genotype, the accuracies {normalisation: {row: share}} and the weights {name: array} of a run."""
    results, network = json.loads((workdir / "results.json").read_text()), np.load(workdir / "meta_network.npz")
    tables = {results["protocol"]["normalisation"]: results["meta_test"]}
    if other := results["meta_test_other"]:
        tables[other["normalisation"]] = other["rows"]
    accuracy = {name: {row: rows[row]["accuracy"] for row in ROWS if row in rows} for name, rows in tables.items()}
    return {
        "genotype": results["genotype"],
        "accuracy": accuracy,
        "population": network["population"].tolist(),
        "weights": {name: network[name] for name in network.files if network[name].dtype.kind == "f"},
    }


def apart(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the largest differences of two outcomes, absolute, and whether what is discrete is the same."""
    pairs = [
        (one["accuracy"][kind][row], value) for kind, rows in other["accuracy"].items() for row, value in rows.items()
    ]
    return {
        "weights": max(float(np.abs(one["weights"][name] - x).max()) for name, x in other["weights"].items()),
        "accuracy": max(abs(here - there) for here, there in pairs),
        "genotype": one["genotype"] == other["genotype"],
        "population": one["population"] == other["population"],
    }


def holds(differences: dict[str, Any]) -> bool:
    """Return whether the differences of a whole search, or of its first steps, are within the bars."""
    same = differences["genotype"] and differences["accuracy"] <= ACCURACY
    return same if differences["kind"] == "search" else differences["weights"] <= WEIGHTS


def compare(
    names: list[str], kinds: dict[str, list[str]], config: str, out: Path, threads: int
) -> list[dict[str, Any]]:
    """Run every layout, each kind of run with flags of its own; return the differences from the first layout."""
    found, rows = {}, []
    for name in names:
        for kind, flags in kinds.items():
            workdir = out / name.replace(" ", "_") / kind
            run(commands(LAYOUTS[name], config, workdir, flags), workdir, threads)
            found[name, kind] = outcome(workdir)
            row = {"layout": name, "kind": kind, **apart(found[names[0], kind], found[name, kind])}
            print(line(row), flush=True)
            told = {key: found[name, kind][key] for key in ("genotype", "accuracy")}
            rows.append(row | {"holds": holds(row), "found": told})
    return rows


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    same = "  ".join(f"{name} {'same' if row[name] else 'OTHER'}" for name in ("genotype", "population"))
    return f"{row['layout']:<12}{row['kind']:<8}weights {row['weights']:<9.2g} accuracy {row['accuracy']:<9.2g} {same}"


def main() -> None:
    """Compare, print, write, and fail where a layout is beyond the bars."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", default="configs/quickstart.py")
    flags.add_argument("--out", type=Path, required=True, help="a folder; what is finished there is read")
    flags.add_argument("--steps", type=int, default=20, help="outer steps of the short run")
    flags.add_argument("--layouts", default=",".join(LAYOUTS), help="the first is what the others are compared with")
    flags.add_argument("--kinds", default="steps,search", help="steps, search, or both")
    flags.add_argument("--threads", type=int, default=8, help="of XLA on a CPU, in every layout; 0: its own choice")
    given, settings = flags.parse_known_args()
    kinds = {"steps": [*settings, f"--config.train.steps={given.steps}", *STEPS], "search": [*SEARCH, *settings]}
    kinds = {kind: kinds[kind] for kind in given.kinds.split(",")}
    rows = compare(given.layouts.split(","), kinds, given.config, given.out, given.threads)
    (given.out / "device_bar.json").write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(int(not all(row["holds"] for row in rows)))


if __name__ == "__main__":
    main()
