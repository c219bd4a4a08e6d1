"""From a meta-network to a network for a whole data set, compared with a search from scratch and with none.

| row              | architecture                                              | first weights    |
|------------------|-----------------------------------------------------------|------------------|
| adapted          | search from the found population, adapt_steps a candidate | the meta-weights |
| scratch          | search from random genotypes, probe_steps a candidate     | random           |
| scratch_equal    | the same with adapt_steps a candidate                     | random           |
| random_from_meta | random                                                    | the meta-weights |
| random           | random                                                    | random           |

All search one space with one strategy for as many generations of as many candidates, and their networks train by one
recipe for the same number of steps. A candidate's fitness is its accuracy on valid after its few steps of training,
each from the same weights. With meta-weights none are needed: the head that starts as the prototypes of the reference
tells architectures apart at once, at the price of embedding reference and valid. Valid alone chooses; test is scored
when a network is done, as it is and as it was at each validation. What chose is too good: of many candidates the best
on valid is in part the luckiest there, the more so the more they differ. Test knows nothing of that.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from atnas_jax.data.labelled_folder import read_support
from atnas_jax.job.config import check_config
from atnas_jax.job.costs import feasibility
from atnas_jax.job.defaults import default_config
from atnas_jax.many_shot.many_shot import Bench, Budget, Trained, make_bench, meta_start, random_start, search, train
from atnas_jax.many_shot.over_seeds import crossing
from atnas_jax.many_shot.supervised import part_data
from atnas_jax.novel.meta_network import MetaNetwork, load_meta_network
from atnas_jax.rng import stream
from atnas_jax.search.variation import random_feasible
from atnas_jax.space.slots import random_genotypes

ROWS = ("adapted", "scratch", "scratch_equal", "random_from_meta", "random")


class Task(NamedTuple):
    """What all seeds of a comparison share."""

    network: MetaNetwork
    images: np.ndarray  # uint8 [n,H,W,C]
    labels: np.ndarray  # int32 [n]
    classes: tuple[str, ...]
    rows: tuple[str, ...]  # in the order of ROWS
    about: dict[str, Any]  # what specialise.json says of each seed alike


class Specialised(NamedTuple):
    """A network for a whole data set, and how it compares."""

    record: dict[str, Any]  # what specialise.json holds
    trained: Trained  # the row adapted
    network: MetaNetwork  # where it comes from
    reference: np.ndarray  # uint8 [R,H,W,C], training images whose statistics normalise what it predicts
    classes: tuple[str, ...]


def read_task(
    workdir: str,
    data: str,
    *,
    rows: Sequence[str] = ROWS,
    width: int = 1,
    depth: int = 0,
    changes: dict[str, Any] | None = None,
) -> Task:
    """Read what all seeds of a comparison share.

    Args:
        workdir: of a finished search, or its meta_network.npz.
        data: folder of class folders, or npz with images and labels; resized to the meta-network's images.
        rows: what is compared, "adapted" among them.
        width, depth: how far the chosen networks are grown before they train, see `nets.grow.grown_space`.
        changes: other values for settings of specialise and limits of search, by dotted name.

    Raises:
        ValueError, FileNotFoundError: one line that says what does not fit.
    """
    if "adapted" not in rows or (unknown := [name for name in rows if name not in ROWS]):
        given = unknown[0] if "adapted" in rows else "adapted is missing"
        raise ValueError(f"rows: {given}; give adapted and some of {', '.join(ROWS[1:])}")
    network = load_meta_network(workdir)
    network.config.specialise.update(default_config().specialise)  # of the job, not of the search that is over
    network.config.update_from_flattened_dict(changes or {})
    check_config(network.config)
    if width > 1 and network.config.net.normalisation == "group":
        raise ValueError(f"width {width} would move channels between the groups of net.normalisation 'group'; give 1")
    images, labels, names = read_support(data, network.image_shape[:2], network.image_shape[-1])
    about = {
        "data": data,
        "meta_network": workdir,
        "fingerprint": _fingerprint(images, labels, network),
        "classes": list(names),
        "image_shape": list(network.image_shape),
        "width": width,
        "depth": depth,
        "changes": dict(changes or {}),
        "settings": network.config.specialise.to_dict(),
    }
    return Task(network, images, labels, names, tuple(name for name in ROWS if name in rows), about)


def specialise_task(task: Task, seed: int, note: Callable[[str], None] = lambda line: None) -> Specialised:
    """Adapt, train and compare.

    Args:
        task: of `read_task`.
        seed: of split, searches and trainings.
        note: is told one line a method.
    """
    network, about = task.network, task.about
    parts, chosen = part_data(task.images, task.labels, network.normalise, network.config.specialise, seed)
    bench = make_bench(network, parts, len(task.classes), seed, (about["width"], about["depth"]), note)
    found = {name: METHODS[name](bench) for name in task.rows}
    images = dict(zip(("train", "valid", "test"), map(len, chosen)))
    record = about | {"images": images, "seed": seed, "rows": {name: trained.row for name, trained in found.items()}}
    if "scratch" in task.rows:
        record["reached"] = reached(record["rows"])
    return Specialised(record, found["adapted"], network, task.images[chosen[3]], task.classes)


def _fingerprint(images: np.ndarray, labels: np.ndarray, network: MetaNetwork) -> str:
    """Return the first 16 hex digits of a SHA-256 over the data, the meta-weights and the population."""
    digest = hashlib.sha256()
    for array in (images, labels, network.population, *jax.tree.leaves(network.params)):
        digest.update(f"{np.shape(array)}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def reached(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return when each row reached the accuracy on valid with which `scratch` ended.

    Returns:
        {"accuracy"; "rows": {name: {"seconds" of search and training, or None: never; "share" of the search time of
        scratch}}}.
    """
    aim, whole = rows["scratch"]["valid"], rows["scratch"]["search_s"]
    crossed = {name: crossing(row["curve"], aim, whole) for name, row in rows.items()}
    found = {name: {key: one[key] for key in ("seconds", "share")} for name, one in crossed.items()}
    return {"accuracy": aim, "rows": found}


def _searched(which: str, equal: bool = False) -> Callable[[Bench], Trained]:
    def method(bench: Bench) -> Trained:
        settings = bench.network.config.specialise
        steps = settings.adapt_steps if which == "adapted" or equal else settings.probe_steps
        start = meta_start(bench) if which == "adapted" else random_start(bench)
        genotype, searched = search(bench, start, Budget(settings.generations, settings.population, steps))
        trained = train(bench, start, genotype, searched)
        bench.note(_line(which + "_equal" * equal, trained.row))
        return trained

    return method


def _random(which: str) -> Callable[[Bench], Trained]:
    """Return the mean over random architectures; genotype and network are those of the first.

    They keep the limits of the search where 64 draws find some that do.
    """

    def method(bench: Bench) -> Trained:
        network, none = bench.network, {"search_s": 0.0, "evaluations": 0}
        feasible = feasibility(network.config, network.space, network.image_shape, network.latency)
        key, number = stream(bench.seed, "random"), network.config.specialise.random_architectures
        if feasible is None:
            drawn = np.asarray(random_genotypes(key, network.space, number))
        else:
            drawn = np.asarray(random_feasible(key, network.space, number, feasible, 64))
        found = []
        for index, genotype in enumerate(drawn):
            start = meta_start(bench) if which == "random_from_meta" else random_start(bench, index)
            found.append(train(bench, start, genotype, none | {"curve": []}))
        rows = [trained.row for trained in found]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in ("train_s", "valid", "test", "compile_s")}
        mean |= {name: round(np.mean([row[name] for row in rows])) for name in ("params", "macs")}
        curves = {name: np.mean([row[name] for row in rows], 0).tolist() for name in ("curve", "test_curve")}
        tests = [row["test"] for row in rows]
        row = rows[0] | mean | curves | {"tests": tests, "genotypes": [row["genotype"] for row in rows]}
        bench.note(_line(which, row))
        return found[0]._replace(row=row)

    return method


METHODS = {
    "adapted": _searched("adapted"),
    "scratch": _searched("scratch"),
    "scratch_equal": _searched("scratch", True),
    "random_from_meta": _random("random_from_meta"),
    "random": _random("random"),
}


def _line(name: str, row: dict[str, Any]) -> str:
    return f"{name}: valid {100 * row['valid']:.2f} %, search {row['search_s']:.1f} s, training {row['train_s']:.1f} s"
