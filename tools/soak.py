"""Run for long and watch the memory: python -m tools.soak --steps=10000 --generations=500 --workdir=/tmp/soak.

Prints the resident memory after 500 outer steps, at every tenth of the run and at its end, and the size of its files.
Ends with status 1 where the memory at the end is more than 5 % above that after 500 steps.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.job.defaults import default_config
from atnas_jax.job.files import only_run
from atnas_jax.job.progress import Progress
from atnas_jax.run.units import run_units

SETTLED = 500  # outer steps after which everything is compiled and every buffer has been there once
ALLOWED = 0.05


def resident_mb() -> float:
    """Return the resident memory of this process, MB (2^20 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak_config(steps: int, generations: int):
    """Return a config whose steps take milliseconds, with a chunk and a checkpoint for every generation."""
    config = default_config()
    config.data.source = "glyphs:per_class=10"
    config.train.update({"steps": steps, "chunk": steps // generations, "warmup": 0.0, "tasks": 2, "queries": 2})
    config.train.update({"ways": 3})
    config.protocol.update({"ways": 3, "queries": 2})
    config.learner.name = "anil"
    config.search.update({"generations": generations, "population": 4, "episodes": 4})
    config.space.chain.update({"ops": ("conv3", "identity"), "widths": (4, 8), "depths": (1, 2), "strides": (2, 2)})
    config.meta_test.conv4 = False
    config.log.checkpoint_minutes = 0.1
    return config


def soak(steps: int, generations: int, workdir: str) -> dict[str, object]:
    """Train and search without a meta-test; return the memory by outer step, MB, and the size of the files, bytes."""
    config, seen = soak_config(steps, generations), {}
    check_config(config)

    def update(_, step, *__, **___):
        if step >= SETTLED and (SETTLED not in seen or step >= max(seen) + steps // 10 or step == steps):
            seen[step if seen else SETTLED] = resident_mb()
            print(f"step {step}: {resident_mb():.1f} MB", flush=True)

    with only_run(workdir):
        run_units(config, build(config), workdir, Progress(update, print, lambda: None))
    sizes = {name: os.path.getsize(os.path.join(workdir, name)) for name in ("metrics.csv", "metrics.jsonl")}
    kept = sum(path.stat().st_size for path in Path(workdir, "checkpoints").rglob("*") if path.is_file())
    first, last = seen[SETTLED], resident_mb()
    return {"settled_mb": first, "end_mb": last, "growth": last / first - 1, "files": sizes | {"checkpoints": kept}}


def main() -> None:
    """Soak, print the outcome as a line of JSON, and fail where the memory grew."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--steps", type=int, default=10_000)
    flags.add_argument("--generations", type=int, default=500)
    flags.add_argument("--workdir", required=True, help="an empty folder")
    given = flags.parse_args()
    found = soak(given.steps, given.generations, given.workdir)
    print(json.dumps(found))
    sys.exit(int(found["growth"] > ALLOWED))


if __name__ == "__main__":
    main()
