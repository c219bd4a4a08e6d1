"""What goes wrong on the machine or in the numbers, in one line that says what to do."""

import errno
from collections.abc import Sequence

import jax

LOWER = {  # program -> settings that its memory grows with
    "train_chunk": "train.task_batch, train.queries, learner.inner_steps or the widths of the space",
    "fitness": "search.batch, protocol.queries or the widths of the space",
    "score": "protocol.queries or the widths of the space",
}
BETWEEN = ("gloo", "nccl", "deadline_exceeded", "coordination")  # of errors in what processes send each other
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # of an OSError that no other path would cure
ANY = "train.task_batch, search.batch, train.queries or the widths of the space"


class Fault(RuntimeError):
    """One line on what stopped a run whose settings are sound; the same command goes on from the last checkpoint."""


def is_of_machine(error: Exception) -> bool:
    """Return whether an error that a command tells in one line is of the machine, not of what was typed or given."""
    return error.errno in DISK if isinstance(error, OSError) else not isinstance(error, ValueError)


def device_fault(error: jax.errors.JaxRuntimeError, name: str = "", megabytes: float | None = None) -> Fault:
    """Return the line on an error of XLA.

    Args:
        error: what was raised.
        name: of the program, where known.
        megabytes: what XLA planned for a run of the program on one device; None: it did not compile.
    """
    reason, lower = " ".join(str(error).split())[:160], LOWER.get(name, ANY)
    if "RESOURCE_EXHAUSTED" in reason or "out of memory" in reason.lower():
        plan = f", whose plan is {megabytes:,.0f} MB a device" if megabytes else ""
        return Fault(f"there is not memory enough for {name or 'this run'}{plan} ({reason}); lower {lower}")
    if any(word in reason.lower() for word in BETWEEN):
        return Fault(
            f"the processes of this run lost each other ({reason}); start all of them again by the same commands"
        )
    doing = f"{name} does not compile" if megabytes is None and name else f"{name or 'the run'} failed on the device"
    return Fault(f"{doing} ({reason}); net.conv and net.execution choose other programs, and {lower} are less work")


def count_nonfinite(notes: dict, skipped: Sequence[bool]) -> int:
    """Return how many outer steps were skipped, and count those in a row at the end into notes["nonfinite"].

    The most in a row, those before this chunk that reach into it included, are notes["nonfinite_most"].
    """
    run, most = notes.get("nonfinite", 0), 0
    for skip in skipped:
        run = run + 1 if skip else 0
        most = max(most, run)
    notes["nonfinite"], notes["nonfinite_most"] = run, most
    return sum(map(bool, skipped))


def too_many(notes: dict, limit: int) -> bool:
    """Return whether `limit` outer steps in a row were skipped."""
    return notes.get("nonfinite_most", 0) >= limit


def check_nonfinite(notes: dict, limit: int) -> None:
    """Raise Fault where `too_many`."""
    if too_many(notes, limit):
        raise Fault(
            f"{notes['nonfinite_most']} outer steps in a row had a loss or gradient that is not finite, "
            f"train.nonfinite_limit is {limit}; the weights of the last sound step are saved; lower train.outer_lr or "
            "learner.inner_lr, or set train.clip, with another --workdir"
        )
