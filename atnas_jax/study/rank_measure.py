"""What a rank check measures of each genotype, and keeps: scores by shared weights, trained alone, by proxies."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled
from atnas_jax.job.progress import Progress
from atnas_jax.job.proxy import make_proxy
from atnas_jax.meta.average import evaluated
from atnas_jax.novel.meta_network import MetaNetwork
from atnas_jax.proxies import PROXIES, score_by_proxy
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import to_text
from atnas_jax.study.alone import FIRST, Alone, make_alone, make_scores
from atnas_jax.study.journal import remembered
from atnas_jax.types import Params

PROXY_EPISODES = 8  # of meta_valid, over whose support sets a proxy is averaged


class Check(NamedTuple):
    """What a rank check is asked for."""

    genotypes: int = 32  # in all
    steps: int = 0  # outer steps of each one alone; 0 is those of the run
    seeds: int = 2  # trainings of a genotype
    repeated: int = 0  # genotypes that are trained by more than the first seed; 0 is all
    population: int = 0  # how many of the genotypes are of the run's population; the others are random
    episodes: int = 300  # of meta_valid, that score
    tune: int = 0  # outer steps alone from the shared weights, as one more predictor; 0 is none
    proxies: bool = True


class Tools(NamedTuple):
    """What measures one genotype int32 [E]."""

    check: Check
    parts: Parts
    shared: Params  # of the supernet
    scores: Callable  # (params, genotype) -> accuracy, loss [episodes]
    alone: Alone
    tuned: Alone | None
    proxies: Callable | None  # (params, genotype, table) -> float32 [number of PROXIES]
    journal: str
    recipe: str  # of training alone
    weights: str  # of the supernet, with the recipe
    progress: Progress


def make_tools(
    config: ConfigDict, parts: Parts, network: MetaNetwork, check: Check, journal: str, progress: Progress
) -> Tools:
    """Return the tools of a run; each program is compiled when a genotype first needs it."""
    clock = {"compile_s": 0.0}
    name = recipe(config, parts, check)
    leaves = jax.tree.leaves(network.params)
    return Tools(
        check=check,
        parts=parts,
        shared=network.params,
        scores=make_scores(config, parts, check.episodes, clock, progress.note),
        alone=make_alone(config, parts, check.steps, clock, progress.note),
        tuned=make_alone(config, parts, check.tune, clock, progress.note) if check.tune else None,
        proxies=compiled(make_proxies(config, parts), clock, mesh=parts.mesh) if check.proxies else None,
        journal=journal,
        recipe=name,
        weights=name + "-" + digest(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)),
        progress=progress,
    )


def recipe(config: ConfigDict, parts: Parts, check: Check) -> str:
    """Return a name of all that the score of a genotype trained alone depends on, besides the genotype and the seed."""
    kept = {name: config[name].to_dict() for name in ("protocol", "train", "space", "net", "learner")}
    silent = {"protocol": ("episodes", "rotations"), "train": ("steps", "chunk", "warmup", "distill", "finish_valid")}
    for section, names in silent.items():
        kept[section] = {name: value for name, value in kept[section].items() if name not in names}
    # Settings that are younger than the first journals, which know them by their defaults.
    train, chain, learner = kept["train"], kept["space"]["chain"], kept["learner"]
    for settings, name in ((train, "mirrors"), (train, "alike"), (chain, "last_pool"), (learner, "tolerance")):
        if not settings[name]:
            del settings[name]
    kept |= {"fingerprint": parts.dataset.fingerprint, "steps": check.steps, "episodes": check.episodes}
    return digest(json.dumps(kept, sort_keys=True).encode())


def digest(data: bytes) -> str:
    """Return a short name of some bytes."""
    return hashlib.sha256(data).hexdigest()[:12]


def make_proxies(config: ConfigDict, parts: Parts) -> Callable:
    """Return proxies(params, genotype int32 [E], table) -> float32 [number of PROXIES], in their order."""
    arguments = (config, parts.space, parts.image_shape, config.protocol.ways)
    proxies = [make_proxy(name, *arguments) for name in PROXIES]

    def all_proxies(params, genotype, table):
        episodes = fixed_episodes(
            parts.dataset.fingerprint, "meta_valid", config.protocol.seed, FIRST + jnp.arange(PROXY_EPISODES), table,
            parts.test_spec, parts.normalise,
        )  # fmt: skip
        masks = mask_of(parts.space, genotype)[None]
        return jnp.concatenate([score_by_proxy(proxy, params, masks, episodes) for proxy in proxies])

    return all_proxies


def measure(tools: Tools, genotypes: np.ndarray) -> list[dict[str, Any]]:
    """Return, per genotype of int32 [n,E], what was measured: see the rows of the record in `rank_check`."""
    check, found = tools.check, []
    for row, (params, macs) in zip(genotypes, np.asarray(tools.parts.cost(genotypes))):
        entry = {"genotype": to_text(tools.parts.space, row), "params": int(params), "macs": int(macs)}
        found.append(entry | cheap(tools, row) | {"alone": []})
    repeated = check.repeated or len(genotypes)
    # The first seed of all comes first, so that a check that is stopped has something to say of each.
    jobs = [(i, seed) for seed in range(check.seeds) for i in range(repeated if seed else len(genotypes))]
    for done, (i, seed) in enumerate(jobs):
        row, entry = genotypes[i], found[i]

        def told(chunk, chunks, done=done, entry=entry):
            tools.progress.update("alone", done * chunks + chunk, len(jobs) * chunks, genotype=entry["genotype"])

        key = {"kind": "alone", "of": tools.recipe, "genotype": entry["genotype"], "seed": seed}
        entry["alone"].append(_figures(remembered(tools.journal, key, partial(by_training, tools, row, seed, told))))
    return found


def cheap(tools: Tools, row: np.ndarray) -> dict[str, Any]:
    """Return the scores of one genotype by the shared weights, tuned ones and proxies, as far as they are asked for."""
    name = to_text(tools.parts.space, row)
    key = {"kind": "supernet", "of": tools.weights, "genotype": name}
    found = {"supernet": _figures(remembered(tools.journal, key, lambda: scored(tools, tools.shared, row)))}
    if tools.tuned is not None:
        key |= {"kind": "tuned", "steps": tools.check.tune}
        found["tuned"] = _figures(remembered(tools.journal, key, lambda: by_tuning(tools, row)))
    if tools.proxies is not None:
        key = {"kind": "proxies", "of": tools.recipe, "genotype": name}
        found["proxies"] = remembered(tools.journal, key, lambda: {"values": by_proxies(tools, row)})["values"]
    return found


def scored(tools: Tools, params: Params, row: np.ndarray) -> dict[str, float]:
    """Return accuracy, its standard error over episodes, and loss of one genotype under some weights."""
    accuracy, loss = tools.scores(params, row)
    error = accuracy.std(ddof=1) / np.sqrt(len(accuracy))
    return {"accuracy": float(accuracy.mean()), "error": float(error), "loss": float(loss.mean())}


def by_training(tools: Tools, row: np.ndarray, seed: int, told: Callable[[int, int], None]) -> dict[str, Any]:
    """Train one genotype alone from scratch and score it."""
    meta, curve = tools.alone.train(tools.alone.start(row, seed), row, seed, told)
    return scored(tools, evaluated(meta), row) | {"curve": curve}


def by_tuning(tools: Tools, row: np.ndarray) -> dict[str, float]:
    """Train one genotype alone for a few steps from the shared weights and score it."""
    start = tools.tuned.start(row, 0)
    # A copy, since training uses its start up; the optimiser and its average begin anew.
    meta, _ = tools.tuned.train(start._replace(params=jax.tree.map(jnp.copy, tools.shared)), row, 0)
    return scored(tools, evaluated(meta), row)


def by_proxies(tools: Tools, row: np.ndarray) -> dict[str, float | None]:
    """Return the zero-cost proxies of one genotype at the weights that training alone starts from; None is -inf."""
    values = np.asarray(tools.proxies(tools.alone.start(row, 0).params, jnp.asarray(row), tools.parts.dataset.table))
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(PROXIES, values)}


def _figures(row: dict[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in ("accuracy", "error", "loss")}
