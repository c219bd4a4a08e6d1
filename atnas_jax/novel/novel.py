"""A meta-network and the labelled images of one novel task in; a classifier of its classes out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.job.compiled import stopwatch
from atnas_jax.job.config import check_config
from atnas_jax.job.costs import count_cost
from atnas_jax.job.trial import trial_to_dict
from atnas_jax.novel.adapted_network import AdaptedNetwork, as_float, as_images, make_predictor, predicting_learner
from atnas_jax.novel.expected import describe
from atnas_jax.novel.meta_network import MetaNetwork
from atnas_jax.novel.padding import lay_out
from atnas_jax.novel.programs import Programs, make_programs
from atnas_jax.novel.support import Choice, Task
from atnas_jax.pseudo import PseudoRows
from atnas_jax.rng import stream
from atnas_jax.space.slots import SearchSpace
from atnas_jax.space.text import to_text
from atnas_jax.types import Params

LIMITS = ("max_params", "max_macs", "max_latency_ms")
QUICK_IMAGES = 100  # of a support: a search on more takes longer than the compiler saves by optimising little
Fit = Callable[..., AdaptedNetwork]


def adapt_to(
    network: MetaNetwork, images: np.ndarray, labels: Sequence[Any] | np.ndarray, *, seed: int = 0, **options: Any
) -> AdaptedNetwork:
    """Adapt architecture and weights to one support set; for many tasks see `make_fit`.

    Args:
        network: from `load_meta_network`.
        images: uint8 [S,H,W] or [S,H,W,C] of any size, C 1 or 3.
        labels: [S], text or numbers, at least two different ones; classes may have unequal counts.
        seed: of the search.
        options: generations, population, seconds, max_params, max_macs, max_latency_ms, estimate, pad; see `make_fit`.

    Raises:
        ValueError: one line that says what does not fit.
    """
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    return make_fit(network, once=True, **options)(as_images(images, network.image_shape), codes, classes, seed=seed)


def make_fit(
    network: MetaNetwork,
    *,
    generations: int | None = None,
    population: int | None = None,
    seconds: float | None = None,
    max_params: int | None = None,
    max_macs: int | None = None,
    max_latency_ms: float | None = None,
    estimate: bool = True,
    pad: bool = True,
    once: bool = False,
    clock: dict[str, float] | None = None,
) -> Fit:
    """Return fit(images, labels, classes=None, *, seed=0) -> AdaptedNetwork, for many tasks.

    Tasks whose supports are filled up to the same number of images share what is compiled, see `pad`. `fit` takes uint8
    [S,H,W,C] in the network's shape, integers [S] in 0..N-1 and the classes [N] that they stand for. Where the
    network's own trial of the search has shown no gain, see `Trial`, it keeps the shared best architecture, unless
    generations, population, seconds or a limit is given.

    Args:
        network: from `load_meta_network`.
        generations: rounds of the search; None is the config's.
        population: genotypes a round; None is the config's.
        seconds: of searching, instead of generations; None is the config's, 0 is `generations`.
        max_params, max_macs, max_latency_ms: limits of the chosen architecture for the task's own number of classes;
            None is the config's, of the protocol's classes.
        estimate: whether to estimate the accuracy to expect, see `expected.py`.
        pad: fill supports of up to 100 images up to 8, 16, 32, 64 or 100, so that tasks of many numbers of images and
            classes share programs, see `lay_out`; without, and with `batch_transductive` normalisation, a task of other
            numbers is compiled for, and is then faster: it has more generations in so many `seconds`. Predictions,
            which take little, are always made so.
        once: it is for one task, on which less compiling is worth more than a faster search.
        clock: gets the seconds of compiling, see `compiled`.

    Raises:
        ValueError: one line on what is out of range, or a limit of latency without a table of it.
    """
    limits = dict(zip(LIMITS, (max_params, max_macs, max_latency_ms), strict=True))
    given = {"adapt.generations": generations, "adapt.population": population, "adapt.seconds": seconds}
    given |= {f"search.{name}": limit for name, limit in limits.items()}
    network = network._replace(config=_changed(network, given))
    limited, clock, known = any(limits.values()), clock or {"compile_s": 0.0}, {}
    # Who asks for a search gets one, by a setting of the run too that no trial could keep.
    asked = network.config.adapt.seconds or any(value is not None for value in given.values())
    trial = None if asked else network.trial
    learner = predicting_learner(network.config, network.space, network.image_shape)
    predictor, pad = make_predictor(network.config, network.space, learner, clock), pad and learner.padded

    def fit(images, labels, classes=None, *, seed: int = 0) -> AdaptedNetwork:
        labels = np.asarray(labels)
        check_labels(labels, len(images))
        _check_ways(network.config, ways := int(labels.max()) + 1)
        order = np.argsort(labels, kind="stable")
        images, labels = np.asarray(images)[order], labels[order].astype(np.int32)
        kind, laid = lay_out(network.config, as_float(images, network.normalise), labels, pad)
        quickly = once and not network.config.adapt.seconds and len(labels) <= QUICK_IMAGES
        made = kind, ways if limited else None, quickly
        if made not in known:
            known[made] = make_programs(network, *made, clock)
        programs, before, seconds = known[made], clock["compile_s"], stopwatch(clock)
        x, y, rows = jax.tree.map(jnp.asarray, (laid.x, laid.y, laid.search))
        warm = programs.repair(network.population[: network.config.adapt.population])
        count = functools.partial(count_cost, network.config, network.space, network.image_shape, ways)
        _check_limits(limits, programs, count, warm)
        task = Task(stream(seed, "adapt"), network.params, x, y, rows, warm[0])
        keeps = trial is not None and trial.keeps(int(np.bincount(labels).min()))
        choice, rounds = _kept(task) if keeps else _search(programs, task, warm, network.config.adapt, seconds)
        chosen, genotype = seconds(), np.asarray(choice.genotype)
        _check_limits(limits, programs, count, genotype[None])
        weights = jax.block_until_ready(programs.learn(network.params, genotype, x, y))
        weights = _of_classes(weights, ways) if kind.padded else weights
        learned = seconds()
        expected = _expected(programs, kind.how, task, genotype, laid.estimate) if estimate else None
        about = _about(network.space, choice, count(genotype), len(labels), expected) | {
            "generations": rounds,
            "evaluations": rounds * network.config.adapt.population,
            "architecture_s": round(chosen, 3),
            "weights_s": round(learned - chosen, 3),
            "compile_s": round(clock["compile_s"] - before, 3),
            "kept_by_trial": trial_to_dict(trial) if keeps else None,
        }
        classes = np.arange(ways) if classes is None else np.asarray(classes)
        return AdaptedNetwork(
            weights, genotype, images, labels, classes, network.space, network.image_shape,
            network.normalise, network.config, about, predictor,
        )  # fmt: skip

    return fit


def _of_classes(weights: Params, ways: int) -> Params:
    """Return adapted weights without the classes that padding has added to the head; nothing is compiled for it."""
    head = {name: jnp.asarray(np.asarray(leaf)[..., :ways]) for name, leaf in weights["head"].items()}
    return weights | {"head": head}


def _expected(programs: Programs, how: str, task: Task, genotype: np.ndarray, rows: PseudoRows) -> dict[str, Any]:
    """Return what `describe` says of the estimate."""
    given = (task.params, genotype, task.support_x, task.support_y, rows, stream(task.key, "expected"))
    return describe(how, np.asarray(programs.estimate(*given))[rows.held >= 0])


def _about(
    space: SearchSpace, choice: Choice, cost: tuple[int, int], images: int, expected: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what adaptation.json says of a choice."""
    gain, error = np.asarray(choice.gain, float)
    return {
        "genotype": to_text(space, np.asarray(choice.genotype)),
        "params": cost[0],
        "macs": cost[1],
        "support_images": images,
        "found": to_text(space, np.asarray(choice.found)),  # before it was held against the shared best
        "found_is_better_by": None
        if not np.isfinite([gain, error]).all()
        else {"nats": float(gain), "standard_error": float(error)},
        "expected": expected,
    }


def check_labels(labels: np.ndarray, images: int) -> None:
    """Raise ValueError unless labels are integers [images] with every one of 0..N-1, N at least 2."""
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"support labels are {labels.dtype} {list(labels.shape)}; need integers [{images}], one an image"
        )
    present = np.unique(labels)
    if len(present) < 2 or present[0] != 0 or present[-1] != len(present) - 1:
        raise ValueError(f"support labels are {present[:8].tolist()}; need every one of 0..N-1 at least once, N >= 2")


def _kept(task: Task) -> tuple[Choice, int]:
    """Return the shared best as a choice, of no generation."""
    return Choice(task.incumbent, task.incumbent, np.full(2, np.nan)), 0


def _search(programs, task, warm, settings, seconds) -> tuple[Choice, int]:
    """Return the choice and the number of generations that it took."""
    if not settings.seconds:
        return jax.block_until_ready(programs.choose(task, warm)), settings.generations
    carry, rounds = programs.first(task, warm), 0
    while rounds == 0 or seconds() < settings.seconds:
        carry = jax.block_until_ready(programs.step(carry, task, jnp.int32(rounds)))
        rounds += 1
    return jax.block_until_ready(programs.decide(carry, task)), rounds


def _changed(network: MetaNetwork, given: dict[str, Any]) -> ConfigDict:
    """Return the config with what was given, checked; None leaves a setting as it is."""
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("search.max_latency_ms") and network.latency is None:
        raise ValueError("max_latency_ms needs a meta-network that was searched with search.latency; this one was not")
    if not given:
        return network.config
    config = network.config.copy_and_resolve_references()
    config.update_from_flattened_dict(given)
    check_config(config)
    return config


def _check_ways(config: ConfigDict, ways: int) -> None:
    if config.learner.head == "matrix" and ways != config.protocol.ways:
        raise ValueError(
            f"the support has {ways} classes; a meta-network with learner.head 'matrix' serves {config.protocol.ways}"
        )


def _check_limits(
    limits: dict[str, float | None], programs: Programs, count: Callable[[Any], tuple[int, int]], population: Any
) -> None:
    """Raise ValueError where none of a population that was made to fit keeps the limits that were asked for."""
    if any(limits.values()) and not np.any(programs.fits(population)):
        asked = " and ".join(f"{name} {limit}" for name, limit in limits.items() if limit)
        params, macs = np.min([count(genotype) for genotype in np.asarray(population)], 0)
        raise ValueError(
            f"{asked} leaves none of the architectures that were tried; the nearest has {params:,} parameters, and one "
            f"has {macs:,} MACs; raise the limit"
        )
