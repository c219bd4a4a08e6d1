"""The command that started a run, for whoever wants to type it again."""

import os
import shlex
import sys

from atnas_jax.job.files import write_whole

FILE = "command.txt"


def keep_command(workdir: str) -> None:
    """Write the command line of this process into the workdir, where it is one of `launch/`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name.startswith("launch."):
        write_whole(os.path.join(workdir, FILE), shlex.join(["python", "-m", spec.name, *sys.argv[1:]]) + "\n")


def kept_command(folder: str) -> str:
    """Return the command line that `keep_command` wrote into a folder, or "" where there is none."""
    path = os.path.join(folder, FILE)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
