"""What `launch.benchmark` measures: rows of a table, each one work under one design, with its peers in turns."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from atnas_jax.bench import peak, works
from atnas_jax.bench.timing import Program, compile_program, in_turns, ratio
from atnas_jax.bench.torch_peer import Peer
from atnas_jax.bench.works import SEVEN_OPS, Sizes
from atnas_jax.devices import AXIS, devices_for
from atnas_jax.job.compiled import one_a_core
from atnas_jax.space.chain import hand_made

PEERS = ("none", "torch")


class Work(NamedTuple):
    """One row.

    name: what the table calls it
    unit, units: what is counted, and how many one call does
    operations: of one call, by hand
    program: ours, compiled
    others: name -> a call that does the same work otherwise: a peer, or another design of ours
    """

    name: str
    unit: str
    units: int
    operations: float
    program: Program
    others: dict[str, Callable[[], Any]]


def train(peer: str, small: bool) -> Iterator[Work]:
    """Yield the meta-training steps: both orders, pooling, in bfloat16 products and strided, plain net and supernet."""
    for name, downsample in (("maml", "pool"), ("fomaml", "pool"), ("maml", "stride"), ("fomaml", "stride")):
        sizes, first_order = shrink(Sizes(downsample=downsample), small), name == "fomaml"
        others = {}
        if peer == "torch":
            found = _peer(sizes)
            others = {"torch loop": found.meta_step(first_order), "torch.func vmap": found.meta_step_vmap(first_order)}
        program = _meta_step(sizes, name, plain=True)
        operations = works.step_operations(sizes, first_order)
        yield Work(f"{name} step, {downsample}", "tasks", sizes.tasks, operations, program, others)
        if downsample == "pool":
            mixed = _meta_step(sizes._replace(conv="mixed"), name, plain=True)
            yield Work(f"{name} step, mixed", "tasks", sizes.tasks, operations, mixed, {"pool": program.run})
    sizes = shrink(Sizes(ops=SEVEN_OPS), small)
    plain = _meta_step(sizes, "maml", plain=True)
    program = _meta_step(sizes, "maml", plain=False)
    operations = works.step_operations(sizes, False)
    yield Work(
        f"maml step of the supernet, {len(sizes.ops)} ops",
        "tasks",
        sizes.tasks,
        operations,
        program,
        {"plain net": plain.run},
    )


def adapt(peer: str, small: bool) -> Iterator[Work]:
    """Yield the adaptation to one novel task, warm."""
    for downsample in ("pool", "stride"):
        sizes = shrink(Sizes(downsample=downsample), small)._replace(tasks=1)
        others = {"torch loop": _peer(sizes).adapt(hand_made(works.space_of(sizes)))} if peer == "torch" else {}
        program = compile_program(*works.one_task(sizes))
        operations = works.adapt_operations(sizes)
        yield Work(f"one task, {downsample}", "tasks", 1, operations, program, others)


def population(peer: str, small: bool) -> Iterator[Work]:
    """Yield the evaluation of a population, and of one genotype against its plain network."""
    sizes = shrink(Sizes(ops=SEVEN_OPS), small)
    genotypes = works.draw_genotypes(sizes)
    others = {"torch loop": _peer(sizes).population(genotypes)} if peer == "torch" else {}
    program = _population(sizes, genotypes)
    operations = sizes.tasks * works.adapt_operations(sizes, genotypes)
    units = sizes.population * sizes.tasks
    yield Work(
        f"population of {sizes.population}, {len(sizes.ops)} ops", "evaluations", units, operations, program, others
    )
    one = hand_made(works.space_of(sizes))[None]
    plain = _population(sizes, one, plain=True)
    program = _population(sizes, one)
    operations = sizes.tasks * works.adapt_operations(sizes, one)
    yield Work("Conv4 in the supernet", "evaluations", sizes.tasks, operations, program, {"plain net": plain.run})


GROWTH = {  # what grows -> its values; all else as in `Sizes`, at four tasks
    "tasks": (2, 4, 8, 16),
    "ways": (5, 10, 20),
    "shots": (1, 2, 5),
    "steps": (1, 5, 10, 20),
    "channels": (16, 32, 64),
    "depth": (2, 4, 8),
}
POPULATION_GROWTH = {"population": (4, 8, 16, 32), "tasks": (2, 4, 8, 16), "choices": (1, 3, 5, 7)}


def growth(peer: str, small: bool) -> Iterator[Work]:
    """Yield the outer step of the plain net, and the evaluation of Conv4 many times over, as one size grows."""
    del peer
    base, ops = shrink(Sizes(tasks=4, population=8), small), shrink(Sizes(ops=SEVEN_OPS), small).ops
    few = 1 if small else None  # curves, and points of each
    for name, values in [*GROWTH.items()][:few]:
        for value in values[:few]:
            sizes = base._replace(**{name: value})
            program = _meta_step(sizes, "maml", plain=True)
            yield Work(
                f"maml step, {name}={value}", "tasks", sizes.tasks, works.step_operations(sizes, False), program, {}
            )
    for name, values in [*POPULATION_GROWTH.items()][:few]:
        for value in values[:few]:
            changes = {"ops": ops[:value]} if name == "choices" else {"ops": ops, name: value}
            sizes = base._replace(**changes)
            # The same genotype many times: what grows is then the number alone and not the luck of the draw.
            same = np.tile(hand_made(works.space_of(sizes)), (sizes.population, 1))
            program = _population(sizes, same)
            operations = sizes.tasks * works.adapt_operations(sizes, same)
            units = sizes.population * sizes.tasks
            yield Work(f"population, {name}={value}", "evaluations", units, operations, program, {})


SUITES = {"train": train, "adapt": adapt, "population": population, "growth": growth}


def shrink(sizes: Sizes, small: bool) -> Sizes:
    """Return sizes of which a test takes seconds, or the sizes themselves."""
    tiny = {"tasks": 2, "queries": 2, "steps": 2, "channels": 4, "image": 4, "depth": 1, "population": 2}
    return sizes._replace(ops=sizes.ops[:3], **tiny) if small else sizes


def peaks(small: bool) -> dict[str, tuple[Callable[[], Any], float]]:
    """Return name -> (a matrix product, its operations): "square" for the peak, "conv" of a convolution's shape."""
    square = peak.gemm(64, 64, 64) if small else peak.square()
    return {"square": square, "conv": peak.convolution_shaped(shrink(Sizes(), small))}


def measure(work: Work, bounds: dict[str, tuple[Callable[[], Any], float]], rounds: int) -> dict[str, Any]:
    """Time a work, the two peaks and its others in turns.

    Args:
        work: compiled.
        bounds: from `peaks`.
        rounds: how often each is timed.

    Returns:
        A row: medians of seconds, rates, shares of the peaks, compile seconds, scratch megabytes, and per other its
        seconds and "ratio", how many times slower than ours it is.
    """
    runs = {"ours": work.program.run, **work.others, **{name: run for name, (run, _) in bounds.items()}}
    taken = in_turns(runs, rounds)
    middle = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    rate = work.operations / middle["ours"] / 1e9
    best = {name: operations / middle[name] / 1e9 for name, (_, operations) in bounds.items()}
    return {
        "work": work.name,
        "unit": work.unit,
        "seconds": middle["ours"],
        "per_second": work.units / middle["ours"],
        "gflops": rate,
        "gemm_gflops": best["square"],
        "conv_gemm_gflops": best["conv"],
        "share_of_gemm": rate / best["square"],
        "share_of_conv_gemm": rate / best["conv"],
        "compile_s": work.program.compile_s,
        "temp_mb": work.program.temp_mb,
        "rounds": rounds,
        "others": {name: {"seconds": middle[name], "ratio": ratio(taken, name, "ours")} for name in work.others},
    }


def _meta_step(sizes: Sizes, name: str, *, plain: bool) -> Program:
    devices, by_core = devices_for(sizes.tasks), one_a_core(sizes.tasks)
    return compile_program(*works.meta_step(sizes, name, plain=plain, axis=AXIS), devices, by_core)


def _population(sizes: Sizes, genotypes: np.ndarray, *, plain: bool = False) -> Program:
    pairs = len(genotypes) * sizes.tasks
    return compile_program(
        *works.population(sizes, genotypes, plain=plain, axis=AXIS), devices_for(pairs), one_a_core(pairs)
    )


def _peer(sizes: Sizes) -> Peer:
    return Peer(sizes, works.first_state(works.learner_of(sizes)).params)
