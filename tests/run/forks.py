"""Call a launcher's own main for many command lines, in one process that forks for each: see test_bad_input.py.

Read from standard input: {"module", "root", "cases": [[flag, ...], ...]}; write a list of [status, stdout, stderr,
files below root that have changed].
"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path


def files(root: str) -> dict[str, tuple[int, int]]:
    """Return size and time of every file below root but locks, and every folder."""
    found = {path: path.lstat() for path in Path(root).rglob("*") if path.name != ".lock"}
    return {str(path): (0, 0) if path.is_dir() else (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def call(module: object, flags: list[str]) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of the launcher in a child process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = [module.__name__, *flags]
            sys.dont_write_bytecode = True  # Python's own cache of a config file
            try:
                module._main.run(module.main)
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code if isinstance(end.code, int) else 0)
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
            os._exit(111)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


def main() -> None:
    """Run the cases of standard input."""
    given = json.load(sys.stdin)
    module, found = importlib.import_module(f"launch.{given['module']}"), []
    for flags in given["cases"]:
        before = files(given["root"])
        found.append([*call(module, flags), sorted(dict(before.items() ^ files(given["root"]).items()))])
    print(json.dumps(found))


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
