"""What devices would send each other: python -m launch.traffic --config=configs/NAME.py --devices=2x1,4x2.

Prints bytes that each device receives in an outer step, a chunk, a generation and the whole search; runs nothing.
"""

from absl import flags
from ml_collections import config_flags

from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.study.traffic import traffic
from launch import _main

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), configs/NAME.py.")
flags.mark_flag_as_required("config")
_DEVICES = flags.DEFINE_list("devices", ["1x1", "2x1", "2x4"], "Meshes, as devices along TASKSxPOPULATION.")
COLUMNS = ("outer_step", "chunk", "generation", "search")


def main(_: list[str]) -> None:
    """Count, and print a line for each mesh."""
    check_config(_CONFIG.value)
    shapes = [_shape(shape) for shape in _DEVICES.value]
    parts = build(_CONFIG.value)
    found = [traffic(_CONFIG.value, parts, tasks, population) for tasks, population in shapes]
    print("  ".join(f"{name} {found[0][name]:,}" for name in found[0] if name not in COLUMNS))
    print("".join(f"{name:>16}" for name in ("tasks x pop.", *COLUMNS)), " bytes received by each device")
    for shape, row in zip(shapes, found):
        print("".join(f"{text:>16}" for text in ("x".join(map(str, shape)), *(f"{row[c]:,}" for c in COLUMNS))))


def _shape(text: str) -> tuple[int, int]:
    tasks, _, population = text.partition("x")
    if not (tasks.isdecimal() and population.isdecimal() and int(tasks) and int(population)):
        raise ValueError(f"devices has {text!r}; it must be TASKSxPOPULATION, such as 4x1 or 4x2")
    return int(tasks), int(population)


if __name__ == "__main__":
    _main.run(main)
