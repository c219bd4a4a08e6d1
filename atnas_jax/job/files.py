"""Files of a workdir: there whole or not at all, read with the culprit named, and used by one run at a time."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

LOCK = ".lock"
_NO_LOCKS = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)  # some network file systems


def write_whole(path: str, text: str) -> None:
    """Write text beside the file and then in its place, so that nobody ever reads a half of it."""
    with open(path + ".tmp", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(path + ".tmp", path)


def check_out(path: str) -> None:
    """Make the folder that a file is to lie in and write there once, so that minutes of work do not end in a bad path.

    Raises:
        OSError: it cannot be written; names the culprit.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w"):
        os.remove(path + ".tmp")


def write_arrays(path: str, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write an npz as `write_whole` writes text."""
    with open(path + ".tmp", "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
    os.replace(path + ".tmp", path)


def write_record(folder: str, name: str, text: str, record: Mapping[str, Any]) -> None:
    """Write a record for people, NAME.txt, and for programs, NAME.json, into the folder, made where absent."""
    os.makedirs(folder, exist_ok=True)
    write_whole(os.path.join(folder, f"{name}.txt"), text + "\n")
    write_whole(os.path.join(folder, f"{name}.json"), json.dumps(record))


def read_json(path: str, cure: str) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or no object; the line ends in `cure`, what to do about it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, not an object")
        return found
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from error


def read_rows(path: str, cure: str) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, none where there is no file; a line without its end is torn.

    Raises:
        ValueError: a line is no JSON object; as of `read_json`.
    """
    if not os.path.exists(path):
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [json.loads(line) for line in file if line.endswith("\n")]
        if odd := [row for row in rows if not isinstance(row, dict)]:
            raise ValueError(f"a line holds a {type(odd[0]).__name__}, not an object")
        return rows
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from error


def warn(text: str) -> None:
    """Say one line that even a quiet run says."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_run(workdir: str) -> Iterator[None]:
    """Hold the workdir, made where absent; the lock is the kernel's and goes with the process, however that ends.

    Raises:
        ValueError: another run holds it.
    """
    os.makedirs(workdir, exist_ok=True)
    with open(os.path.join(workdir, LOCK), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise ValueError(f"{workdir} is in use by {holder}; let it end, or type another --workdir") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
