"""What each setting may be, by its dotted name: one of a few, or a number in a range."""

import math

from atnas_jax.meta.heads import HEADS
from atnas_jax.meta.learners import INNER_OPTIMISERS, LEARNERS
from atnas_jax.nets.conv import IMPLEMENTATIONS
from atnas_jax.nets.norm import NORMALISATIONS
from atnas_jax.nets.supernet import DTYPES, EXECUTIONS, READOUTS
from atnas_jax.proxies import PROXIES
from atnas_jax.search.sampling import SAMPLERS
from atnas_jax.search.scalarise import FACTORS, TERMS
from atnas_jax.search.strategies import BY_GRADIENT, STRATEGIES

CHOICES = {
    "train.schedule": ("cosine", "constant"),
    "train.remat": ("auto", "always", "never"),
    "space.family": ("chain", "cell"),
    "space.chain.downsample": ("pool", "stride"),
    "space.cell.stem_stride": (1, 2),
    "data.channels": (0, 1, 3),
    "net.normalisation": NORMALISATIONS,
    "net.readout": READOUTS,
    "net.execution": EXECUTIONS,
    "net.dtype": DTYPES,
    "net.conv": IMPLEMENTATIONS,
    "learner.name": tuple(LEARNERS),
    "learner.head": HEADS,
    "learner.inner_optimiser": tuple(INNER_OPTIMISERS),
    "search.strategy": (*STRATEGIES, *BY_GRADIENT),
    "search.sampler": SAMPLERS,
    "search.prefilter": ("none", *PROXIES, "params", "macs"),
    "adapt.score": ("loss", "mix", *PROXIES),
    "search.racing": ("halving", "none"),
    "search.anchor": ("always", "warmup", "never"),
    "search.scalarise": ("none", *FACTORS, *TERMS),
    "search.scalarise_cost": ("params", "macs", "latency"),
    "search.over_limit": ("reject", "repair"),
}
_SHARES = ("train.warmup", "train.finish", "search.population_share", "search.racing_share", "search.open_by")
_PARTS = ("specialise.valid", "specialise.test")
_SEEDS = ("seed", "protocol.seed")
_AT_LEAST = {
    -1: ("learner.eval_inner_steps", "adapt.margin"),
    0: (
        *("data.difficulty", "learner.inner_steps", "learner.inner_lr", "learner.tolerance"),
        *("train.clip", "train.clip_elements", "train.weight_decay", "train.warp", "train.distill"),
        *("train.first_order_steps", "train.every_step_loss", "learner.freeze_after"),
        *("specialise.weight_decay", "specialise.adapt_steps"),
        *("search.max_params", "search.max_macs", "search.max_latency_ms", "search.target", "log.checkpoint_minutes"),
        *("adapt.seconds", "adapt.trials", "devices"),
    ),
    1e-9: ("train.outer_lr", "specialise.rate"),
    1: (
        *("protocol.shots", "protocol.queries", "train.shots", "train.queries", "train.tasks", "train.steps"),
        *(
            "train.chunk",
            "train.task_batch",
            "train.masks_per_task",
            "train.nonfinite_limit",
            "search.batch",
            "search.prefilter_factor",
            "adapt.copies",
            "adapt.generations",
            "search.generations",
            "search.episodes",
        ),
        *("meta_test.random_architectures", "log.keep", "specialise.steps", "specialise.batch", "specialise.every"),
        *("specialise.generations", "specialise.probe_steps", "specialise.reference"),
        "specialise.random_architectures",
    ),
    2: (
        *("protocol.ways", "protocol.episodes", "train.ways"),
        *("adapt.population", "adapt.folds", "search.population", "specialise.population"),
    ),
}
RANGES = (
    {name: (low, math.inf) for low, names in _AT_LEAST.items() for name in names}
    | dict.fromkeys(_SHARES, (0, 1))
    | {"train.ema": (0, 0.99999), "data.image_size": (0, 4096)}
    | dict.fromkeys(_PARTS, (0.01, 0.49))
    | dict.fromkeys(_SEEDS, (0, 2**31 - 1))
)
