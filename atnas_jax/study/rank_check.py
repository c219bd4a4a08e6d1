"""Does the supernet rank architectures as training each of them alone does? Both are scored on the same episodes.

| row of the table  | what predicts the accuracy after training alone                                            |
|-------------------|--------------------------------------------------------------------------------------------|
| supernet          | accuracy under the shared weights                                                          |
| supernet_loss     | minus the query loss under the shared weights                                              |
| tuned             | accuracy after a few outer steps alone from the shared weights, where asked for            |
| params, macs      | size, which knows nothing of images: the null predictors                                   |
| naswot, ...       | zero-cost proxies at fresh weights                                                         |
| seed against seed | accuracy after training alone by another seed: the ceiling, as nothing predicts its noise  |

The record, schema 1: `schema`; `workdir`; `source`; `protocol` {`ways`, `shots`, `queries`, `inner_steps`,
`normalisation`}; `recipe`, a name of what training alone depends on; the numbers of `Check`; `top`, how many genotypes
are the best tenth; `predictors` {row: {`tau` (Kendall's tau-b), `low`, `high` (its 95 % bootstrap interval over
genotypes), `spearman`, `precision` (of the best tenth), `tau_one_seed` (mean of tau against each seed alone), `ahead`
{`tau`, `low`, `high`}: how much the tau of supernet is above this one's, paired}}, against the mean over the seeds that
all genotypes have; `ceiling` {`tau`, `low`, `high`, `spearman`, `precision`, `genotypes`} or null; `genotypes`, a list
of {`genotype`, `origin` population | random, `params`, `macs`, `supernet` {`accuracy`, `error` (standard error over
episodes), `loss`}, `tuned` (the same), `proxies` {name: value}, `alone` [the same as supernet, a seed each]}. What is
undefined, such as the tau of a constant, is null.
"""

import os
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.front import DRAWN
from atnas_jax.job.budget import takes_valid
from atnas_jax.job.build import Parts, build
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.costs import feasibility
from atnas_jax.job.progress import make_progress
from atnas_jax.nets.norm import is_transductive
from atnas_jax.novel.meta_network import load_meta_network
from atnas_jax.rng import stream
from atnas_jax.run.search import finished
from atnas_jax.search.variation import random_feasible
from atnas_jax.space.equivalents import canonical, distinct
from atnas_jax.study.agreement import advantage, agreement, ceiling, top_count
from atnas_jax.study.rank_measure import Check, make_tools, measure

SCHEMA = 1
JOURNAL = "rank_check.jsonl"
NULLS = ("params", "macs")


def rank_check(workdir: str, out: str, check: Check, *, source: str = "", quiet: bool = False) -> dict[str, Any]:
    """Train genotypes alone and compare their order with the supernet's; returns the record described above.

    Args:
        workdir: of a finished search.
        out: folder, made where absent, that keeps each score as it is computed; what it holds is not computed again.
            Runs that differ in the search alone may share it.
        check: what is asked for.
        source: where the data of the run is now; "" where it was.
        quiet: show no progress.

    Raises:
        FileNotFoundError: the workdir holds no finished search.
        ValueError: the data is not that of the run, the run trained on meta_valid, or numbers that do not fit.
    """
    if (results := finished(workdir)) is None:
        raise FileNotFoundError(f"{workdir} holds no finished search; run launch.search with this --workdir first")
    network = load_meta_network(workdir)
    config = network.config
    config.data.source = source or config.data.source
    if takes_valid(config):
        raise ValueError(
            f"{workdir} trained on meta_valid, which would score it; take a run without train.finish_valid"
        )
    parts = build(config)
    if (began := results["data"]["fingerprint"]) != parts.dataset.fingerprint:
        raise ValueError(f"{parts.dataset.source} is no longer the data of {workdir}, whose fingerprint is {began}")
    check = check._replace(steps=check.steps or config.train.steps)
    genotypes, members = chosen(config, parts, np.asarray(network.population), check)
    os.makedirs(out, exist_ok=True)
    progress = make_progress({"alone": 1.0}, quiet)
    try:
        tools = make_tools(config, parts, network, check, os.path.join(out, JOURNAL), progress)
        rows = measure(tools, genotypes)
    finally:
        progress.close()
    origins = ["population"] * members + ["random"] * (len(rows) - members)
    return {
        "schema": SCHEMA,
        "workdir": workdir,
        "source": parts.dataset.source,
        "protocol": {
            **{name: getattr(config.protocol, name) for name in ("ways", "shots", "queries")},
            "inner_steps": evaluation_steps(config),
            "normalisation": "transductive" if is_transductive(config.net.normalisation) else "inductive",
        },
        "recipe": tools.recipe,
        **check._asdict(),
        **compared(rows),
        "genotypes": [{"origin": origin} | row for origin, row in zip(origins, rows)],
    }


def chosen(config: ConfigDict, parts: Parts, population: np.ndarray, check: Check) -> tuple[np.ndarray, int]:
    """Return genotypes int32 [check.genotypes,E], no network twice, and how many of them, the first, are members.

    Args:
        config, parts: of the run.
        population: int32 [P,E], of the run, the best first.
        check: how many of which.

    Raises:
        ValueError: there are fewer, or numbers that do not fit.
    """
    number, space = check.genotypes, parts.space
    if not 0 <= max(check.population, check.repeated) <= number:
        raise ValueError(f"population={check.population} and repeated={check.repeated} must be 0 to {number}")
    feasible = feasibility(config, space, parts.image_shape, parts.latency)
    drawn = random_feasible(stream(0, "rank check"), space, DRAWN * number, feasible, 16)
    drawn = drawn if feasible is None else drawn[np.asarray(feasible(drawn))]
    members = distinct(space, population)[: check.population]
    genotypes = canonical(space, distinct(space, np.concatenate([members, np.asarray(drawn)]))[:number])
    if len(genotypes) < number:
        raise ValueError(f"genotypes={number}, but {len(genotypes)} different networks were found; type fewer")
    return genotypes, len(members)


def compared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return {"top", "predictors", "ceiling"} of the record from what `measure` found."""
    seeds = min(len(row["alone"]) for row in rows)  # that all genotypes have
    alone = np.asarray([[one["accuracy"] for one in row["alone"][:seeds]] for row in rows]).T
    scores, truth = predictors_of(rows), alone.mean(0)
    predictors = {}
    for name, score in scores.items():
        single = [agreement(score, column)["tau"] for column in alone]
        predictors[name] = agreement(score, truth) | {
            "tau_one_seed": None if None in single else float(np.mean(single)),
            "ahead": advantage(scores["supernet"], score, truth),
        }
    most = max(len(row["alone"]) for row in rows)
    full = [[one["accuracy"] for one in row["alone"]] for row in rows if len(row["alone"]) == most]
    return {
        "top": top_count(len(rows)),
        "predictors": predictors,
        "ceiling": ceiling(np.asarray(full).T) if most > 1 and len(full) > 1 else None,
    }


def predictors_of(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return predictor -> float [n], larger promises more, of what `measure` found."""
    scores = {
        "supernet": [row["supernet"]["accuracy"] for row in rows],
        "supernet_loss": [-row["supernet"]["loss"] for row in rows],
    }
    if "tuned" in rows[0]:
        scores["tuned"] = [row["tuned"]["accuracy"] for row in rows]
    scores |= {name: [row[name] for row in rows] for name in NULLS}
    for name in rows[0].get("proxies", {}):
        scores[name] = [row["proxies"][name] for row in rows]
    return {name: np.asarray(values, np.float64) for name, values in scores.items()}  # None becomes NaN
