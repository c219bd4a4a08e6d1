"""A novel task from its support alone: pseudo-episodes out of the support set, and a short search over them.

No query image or label enters: where K >= 2 folds of the support take turns as queries, where K = 1 slightly moved
copies of the support images stand in for them. Whether what is found is worth leaving the shared best architecture for
is asked in `incumbent.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.data.augment import pseudo_queries
from atnas_jax.devices import Axis
from atnas_jax.evaluate import drop_infeasible, evaluate
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, Episode, MetaLearner, Params, PyTree, Strategy


def support_folds(labels: np.ndarray, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a support set into folds of equal shape that hold every class.

    From each class fold f holds out items f*h..(f+1)*h-1, h = count // F, F = min(folds, smallest class).

    Args:
        labels: int [S] on the host, classes may have unequal counts, each at least 2.
        folds: the largest number of folds.

    Returns:
        (rows to learn from int [F,S-h], rows held out int [F,h]).

    Raises:
        ValueError: a class has fewer than two items.
    """
    counts = np.bincount(labels)
    number = min(folds, int(counts.min()))
    if number < 2:
        raise ValueError(f"folds need 2 images or more of every class; the smallest class has {counts.min()}")
    held = np.zeros((number, len(labels)), bool)
    for label, count in enumerate(counts):
        rows, size = np.flatnonzero(labels == label), count // number
        for fold in range(number):
            held[fold, rows[fold * size : (fold + 1) * size]] = True
    return np.stack([np.flatnonzero(~row) for row in held]), np.stack([np.flatnonzero(row) for row in held])


def moved_rows(labels: np.ndarray, copies: int) -> np.ndarray:
    """Return which support image each moved copy is of, int [N*n], n = max(copies, largest class) copies of a class.

    A class's images take turns, so every class has equally many pseudo-queries however unequal the counts are.

    Args:
        labels: int [S] on the host.
        copies: of the only image of a class, at least 1.
    """
    number = max(copies, int(np.bincount(labels).max()))
    # Sorted, so that copies of one image are neighbours.
    return np.concatenate([np.sort(np.resize(np.flatnonzero(labels == k), number)) for k in range(labels.max() + 1)])


def pseudo_sources(labels: np.ndarray, folds: int, copies: int) -> np.ndarray:
    """Return which support image each pseudo-query of `pseudo_episodes` is or is a copy of; int [T,Q].

    Args: as of `pseudo_episodes`.
    """
    if np.bincount(labels).min() >= 2:
        return support_folds(labels, folds)[1]
    return moved_rows(labels, copies)[None]


def pseudo_episodes(
    key: Array, support_x: Array, support_y: Array, labels: np.ndarray, *, folds: int, copies: int
) -> Episode:
    """Make episodes out of a support set.

    Args:
        key: consumed; of moved copies, as folds are the same for every key.
        support_x: float32 [S,H,W,C].
        support_y: int32 [S].
        labels: the same labels on the host, since they decide shapes; int [S].
        folds: the largest number of folds where every class has two images or more.
        copies: moved copies of the image where a class has only one, see `moved_rows`.

    Returns:
        An Episode with a leading T = number of folds, or 1.
    """
    if np.bincount(labels).min() >= 2:
        learn, held = support_folds(labels, folds)
        return Episode(support_x[learn], support_y[learn], support_x[held], support_y[held])
    rows = moved_rows(labels, copies)
    moved = pseudo_queries(key, support_x[rows], 1)
    return jax.tree.map(lambda x: x[None], Episode(support_x, support_y, moved, support_y[rows]))


def mean_ranks(values: Array) -> Array:
    """Return float32 [n], the mean over columns v of a row's mid-rank in 0..1, 1 where it is the largest of all.

    f_i = 1/V sum_v r_v(i),  r_v(i) = (#{j: v_j < v_i} + 1/2 #{j != i: v_j = v_i}) / (n - 1).

    Ranks have no unit, so a loss in nats and a log-determinant weigh the same whatever their spread is.

    Args:
        values: float32 [n,V], each column to be maximised; no NaN, n at least 2.
    """
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1) - 1
    return ((below + 0.5 * equal) / (len(values) - 1)).mean(1)


class Leader(NamedTuple):
    """The best genotype so far."""

    genotype: Array  # int32 [E]
    values: Array  # float32 [V], what it is ranked by, each to be maximised
    fitness: Array  # float32 [], V = 1: the value; else its mean rank when it last led; -inf: none has led yet


Carry = tuple[PyTree, Leader]  # the state of the strategy, and the best so far


def first_carry(key: Array, strategy: Strategy, warm: Array | None, mixed: bool = False) -> Carry:
    """Return what a search carries before its first generation; arguments as of `adapt_architecture`."""
    state, nothing = strategy.init(key, warm), jnp.float32(-jnp.inf)
    return state, Leader(strategy.best(state), jnp.full(1 + mixed, nothing), nothing)


def make_generation(
    learner: MetaLearner,
    space: SearchSpace,
    strategy: Strategy,
    params: Params,
    episodes: Episode,
    batch: int = 1,
    feasible: Feasible | None = None,
    axis: str | None = None,
    score: Callable[[Array], Array] | None = None,
    mixed: bool = False,
) -> Callable[[Carry, Array], tuple[Carry, None]]:
    """Return generation(carry, key) -> (carry, None), a round of ask and tell; arguments as of `adapt_architecture`."""

    def values_of(genotypes: Array) -> Array:
        masks, columns = mask_of(space, genotypes), []
        if score is None or mixed:
            columns.append(evaluate(learner, params, masks, episodes, _negative_loss, batch, axis).fitness[:, 0])
        if score is not None:
            columns.append(score(masks))
        values = jnp.stack(columns, -1)
        return drop_infeasible(feasible, genotypes, jnp.where(jnp.isnan(values), -jnp.inf, values))

    def generation(carry: Carry, key: Array) -> tuple[Carry, None]:
        state, leader = carry
        asked = strategy.ask(key, state)
        genotypes = jnp.concatenate([leader.genotype[None], asked])
        values = jnp.concatenate([leader.values[None], values_of(asked)])
        fitness = values[:, 0]
        if mixed:  # what keeps no limit, or has not been told, has no rank
            fitness = drop_infeasible(feasible, genotypes, mean_ranks(values)[:, None])[:, 0]
            fitness = fitness.at[0].set(jnp.where(leader.fitness == -jnp.inf, -jnp.inf, fitness[0]))
        state = strategy.tell(state, asked, fitness[1:, None])
        top = jnp.argmax(fitness)  # the first of equals: who leads stays
        return (state, Leader(genotypes[top], values[top], fitness[top])), None

    return generation


def adapt_architecture(
    key: Array,
    learner: MetaLearner,
    space: SearchSpace,
    strategy: Strategy,
    params: Params,
    warm: Array | None,
    episodes: Episode,
    generations: int,
    batch: int = 1,
    feasible: Feasible | None = None,
    axis: Axis | None = None,
    score: Callable[[Array], Array] | None = None,
    mixed: bool = False,
) -> tuple[Array, Array]:
    """Search for the genotype that does best on pseudo-episodes; jittable.

    Fitness is the negative mean loss: a handful of pseudo-queries makes accuracy too coarse to rank by. Or it is a
    `score`, such as a proxy on the support, that trains nothing; or the mean rank by both, see `mean_ranks`, among the
    genotypes of a generation and the best one before it.

    Args:
        key: consumed.
        learner: adapts and predicts.
        space: what the genotypes mean.
        strategy: asks and tells; its population times `generations` is the number of evaluations.
        params: meta-parameters.
        warm: int32 [n,E], the population found across tasks, or None for a cold start.
        episodes: from `pseudo_episodes`.
        generations: rounds of ask and tell, at least 1.
        batch: pairs of mask and episode evaluated together, see `evaluate.py`.
        feasible: int32 [n,E] -> bool [n]; the others have fitness -inf.
        axis: the mapped axis of the devices that share the evaluations, see `devices.py`.
        score: masks float32 [P,E,O] -> float32 [P], to be maximised, instead of the loss of pseudo-episodes.
        mixed: rank by the loss and by the score.

    Returns:
        (the best genotype int32 [E], its fitness float32 []).
    """
    first, rest = jax.random.split(key)
    generation = make_generation(
        learner, space, strategy, params, episodes, batch, feasible, axis, score=score, mixed=mixed
    )
    carry = first_carry(first, strategy, warm, mixed)
    (_, leader), _ = jax.lax.scan(generation, carry, jax.random.split(rest, generations))
    return leader.genotype, leader.fitness


def _negative_loss(accuracy: Array, loss: Array) -> Array:
    del accuracy
    return -loss.mean(1, keepdims=True)
