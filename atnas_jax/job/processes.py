"""Several processes, of one host or many, that run the same host loop and meet in the compiled programs.

All state is whole in every process and small, so process 0 alone reads and writes the workdir, which no other need see,
and says what it read. The rest follows: the same keys, the same state, the same decisions. What depends on a clock, a
signal or a disk of one process is agreed on here first. With one process nothing here costs anything.
"""

import json
import os
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from atnas_jax.job.faults import Fault, is_of_machine
from atnas_jax.types import Array, PyTree

ENVIRONMENT = {"coordinator": "JAX_COORDINATOR_ADDRESS", "processes": "JAX_NUM_PROCESSES", "process": "JAX_PROCESS_ID"}
REFUSALS = (ValueError, OSError, Fault, MemoryError)  # what the commands tell in one line


def join(coordinator: str = "", processes: int = 0, process: int = -1, detect: bool = False) -> None:
    """Join the other processes of this run, before jax starts; without any argument this one is alone.

    Args:
        coordinator: HOST:PORT of process 0; default: $JAX_COORDINATOR_ADDRESS.
        processes: how many there are; default: $JAX_NUM_PROCESSES.
        process: the number of this one, from 0; default: $JAX_PROCESS_ID.
        detect: take all three from Slurm, a TPU pod, Open MPI or Kubernetes, as `jax.distributed.initialize` does.

    Raises:
        ValueError: the three are incomplete or at odds, nothing is detected, or the others do not come.
    """
    given = {"coordinator": coordinator, "processes": processes or "", "process": "" if process < 0 else process}
    given = {name: value if value != "" else os.environ.get(ENVIRONMENT[name], "") for name, value in given.items()}
    if not detect and not any(value != "" for value in given.values()):
        return
    # Else a library of XLA would catch SIGTERM and nobody ask it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if detect:
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(*_complete(given), cluster_detection_method="deactivate")
    except RuntimeError as error:
        raise ValueError(f"the processes did not find each other: {error}") from error
    except ValueError as error:
        hint = "; --distributed found no cluster, give --coordinator, --processes and --process" if detect else ""
        raise ValueError(f"{error}{hint}") from error


def _complete(given: dict[str, Any]) -> tuple[str, int, int]:
    said = ", ".join(f"--{name} (or ${ENVIRONMENT[name]}) {value!r}" for name, value in given.items())
    try:
        address, number, own = given["coordinator"], int(given["processes"]), int(given["process"])
    except ValueError as error:
        raise ValueError(f"{said}: give all three, the last two as whole numbers") from error
    if ":" not in address or not address.rsplit(":", 1)[1].isdigit():
        raise ValueError(f"{said}: the coordinator must be HOST:PORT of process 0")
    if not 0 <= own < number:
        raise ValueError(f"{said}: the process must be from 0 to the number of processes less 1")
    return address, number, own


def is_first() -> bool:
    """Return whether this process is the one that reads and writes the workdir."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Return whether the flag holds in any process; all must ask."""
    return flag if jax.process_count() == 1 else bool(_of_all(np.asarray([flag], np.int32)).any())


def together(function: Callable, *args: Any) -> Any:
    """Return function(*args), called by every process; where it refuses in one, no process goes on.

    Raises:
        ValueError, OSError, Fault, MemoryError: its own; that it refused elsewhere, a Fault where it was of the
            machine, else a ValueError.
    """
    if jax.process_count() == 1:
        return function(*args)
    value = problem = None
    try:
        value = function(*args)
    except REFUSALS as error:
        problem = error
    kind = 0 if problem is None else 1 + is_of_machine(problem)
    failed = _of_all(np.asarray([kind], np.int32))[:, 0]
    if problem is not None:
        raise problem
    if failed.any():
        first = np.flatnonzero(failed)[0]
        refused = ValueError if failed[first] == 1 else Fault
        raise refused(f"process {first} of {len(failed)} refused; its own line says why")
    return value


def by_first(function: Callable, *args: Any, **options: Any) -> Any:
    """Return what function(*args, **options) is to process 0, which alone calls it; anything that JSON can hold.

    Raises:
        ValueError, OSError, Fault, MemoryError: its own; in the other processes one that repeats it, a Fault where it
            was of the machine, else a ValueError.
    """
    if jax.process_count() == 1:
        return function(*args, **options)
    value = problem = None
    if is_first():
        try:
            value = function(*args, **options)
        except REFUSALS as error:
            problem = error
    machine = problem is not None and is_of_machine(problem)
    said = _text_of_first(json.dumps({"value": value, "problem": problem and str(problem), "machine": machine}))
    if problem is not None:
        raise problem
    told = json.loads(said)
    if told["problem"] is not None:
        raise (Fault if told["machine"] else ValueError)(f"process 0 refused: {told['problem']}")
    return value if is_first() else told["value"]


def of_first(tree: PyTree) -> PyTree:
    """Return the arrays of process 0, bit for bit, in all; the others give arrays of the same shapes."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    rows = [np.asarray(leaf) for leaf in leaves]
    # As bytes: the sum over processes that a broadcast is would lose the sign of a zero.
    found = _from_first(np.concatenate([np.ravel(row).view(np.uint8) for row in rows]))
    ends = np.cumsum([row.nbytes for row in rows])
    back = [found[end - row.nbytes : end].view(row.dtype).reshape(row.shape) for end, row in zip(ends, rows)]
    return jax.tree.unflatten(structure, [jnp.asarray(x) for x in back])


def check_same(what: str, text: str) -> None:
    """Raise ValueError unless the text is the same in all processes."""
    if jax.process_count() == 1:
        return
    sums = _of_all(np.asarray([zlib.crc32(text.encode())], np.uint32))[:, 0]
    for process, found in enumerate(sums):
        if found != sums[0]:
            raise ValueError(f"process {process} of {len(sums)} has other {what} than process 0; give all the same")


def first_only(make: Callable[[], Any]) -> Any:
    """Return make() in process 0; in the others something of which every method does nothing.

    Raises:
        ValueError, OSError, Fault, MemoryError: as `by_first`.
    """
    made = []
    by_first(lambda: made.append(make()))
    return made[0] if made else _Nothing()


class _Nothing:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _text_of_first(text: str) -> str:
    own = np.frombuffer(text.encode(), np.uint8)
    size = int(_from_first(np.asarray([own.size], np.int32))[0])
    return _from_first(own if is_first() else np.zeros(size, np.uint8)).tobytes().decode()


def _of_all(row: np.ndarray) -> np.ndarray:
    """Return [processes, n], the rows [n] of all."""
    return _meet(_same, row)


def _from_first(row: np.ndarray) -> np.ndarray:
    """Return the row [n] of process 0."""
    return _meet(_sum, row if is_first() else np.zeros_like(row))


def _meet(function: Callable, row: np.ndarray) -> np.ndarray:
    """Return function(rows [processes, n]).

    `multihost_utils` waits for the first device alone. On a CPU the others could then still be sending when the next
    program begins to, and its messages be taken for theirs.
    """
    mesh = Mesh(np.asarray(jax.devices()).reshape(jax.process_count(), -1), ("process", "own"))
    rows = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("process")), row[None])
    found = jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec()))(rows)
    return np.asarray(jax.block_until_ready(found).addressable_data(0))


def _same(rows: Array) -> Array:
    return rows


def _sum(rows: Array) -> Array:
    return rows.sum(0, dtype=rows.dtype)
