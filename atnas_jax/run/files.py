"""Files of a workdir that are there whole or not at all."""

import os


def write_whole(path: str, text: str) -> None:
    """Write text beside the file and then in its place, so that nobody ever reads a half of it."""
    with open(path + ".tmp", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(path + ".tmp", path)
