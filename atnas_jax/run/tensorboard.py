"""The metrics of a run as TensorBoard events besides, by tensorboardX, which needs neither TensorFlow nor TensorBoard.

A column COLUMN of `metrics.csv` (see `run/metrics.py`) in a row of phase PHASE is the scalar PHASE/COLUMN, such as
meta_train/loss, search/best_fitness or control/accuracy, at the outer step of the row; best_genotype is a text.
"""

import importlib.util
import os
from typing import Any

from atnas_jax.run.metrics import Metrics

FOLDER = "tensorboard"
KEYS = ("step", "phase")


def check_tensorboard() -> None:
    """Raise ValueError, in one line, where tensorboardX is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("log.tensorboard needs tensorboardX; type pip install 'atnas_jax[tensorboard]'")


def with_tensorboard(metrics: Metrics, workdir: str, resume_step: int | None = None) -> Metrics:
    """Return metrics that go to the folder `tensorboard` of the workdir too.

    Args:
        metrics: what they are besides.
        workdir: of the run.
        resume_step: as of `open_metrics`; TensorBoard drops what an earlier start wrote past it.

    Raises:
        ValueError: tensorboardX is not installed.
    """
    check_tensorboard()
    from tensorboardX import SummaryWriter

    purge = None if resume_step is None else resume_step + 1
    writer = SummaryWriter(os.path.join(workdir, FOLDER), purge_step=purge)

    def write(**columns: Any) -> None:
        metrics.write(**columns)  # refuses what is no column
        for name, value in columns.items():
            tag = f"{columns.get('phase', 'run')}/{name}"
            if isinstance(value, str) and name not in KEYS:
                writer.add_text(tag, value, columns["step"])
            elif name not in KEYS:
                writer.add_scalar(tag, float(value), columns["step"])
        writer.flush()

    def close() -> None:
        metrics.close()
        writer.close()

    return Metrics(write, close)
