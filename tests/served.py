"""`python -m launch.MODULE`, each in a fork of one process that has imported what all share: see `command`.

A line of standard input is [module or PATH.py, flag, ...]; a line of standard output is its [status, stdout, stderr].
"""

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback

SECONDS = 300  # after which a command is killed
# What the launchers import, but for launch itself, whose modules define flags of the same names.
SHARED = (
    "ml_collections.config_flags",
    "atnas_jax.export.write",
    "atnas_jax.report.adaptation",
    "atnas_jax.report.page",
    "atnas_jax.report.specialised",
    "atnas_jax.run.search",
    "atnas_jax.study.compare_searches",
    "atnas_jax.study.rank_check",
)


def _run(module: str, flags: list[str]) -> int:
    """Return the exit status of a module of launch, or a file, run as the main program of this process."""
    sys.argv = [module, *flags]
    try:
        if module.endswith(".py"):
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(f"launch.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def ended(module: str, *flags: str) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a launcher in a child process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            status = _run(module, list(flags))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


def main() -> None:
    """Serve until standard input ends."""
    for name in SHARED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(ended(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
