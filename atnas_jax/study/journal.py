"""A file of JSON lines that keeps what was dear to compute, so that a command typed again computes nothing twice."""

import json
import os
from collections.abc import Callable
from typing import Any

from atnas_jax.job.files import write_whole


def remembered(path: str, key: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the file that holds all of `key`; where there is none, compute it and add it.

    Args:
        path: of the file, made where absent.
        key: names and values of JSON.
        compute: () -> further names and values of JSON.

    Raises:
        ValueError: a line, other than a last one that was cut short, is no JSON object.
    """
    for row in read(path):
        if key.items() <= row.items():
            return row
    row = key | compute()
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return row


def read(path: str) -> list[dict[str, Any]]:
    """Return the rows of the file; a last line that a killed process cut short is taken out of it.

    Raises: as `remembered`.
    """
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_whole(path, whole)
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a damaged line ({error}); delete the line, or type another --out") from error
    return rows
