"""A novel task from its support alone: pseudo-episodes out of the support set, and a short search over them.

No query image or label enters: where K >= 2 folds of the support take turns as queries, where K = 1 slightly moved
copies of the support images stand in for them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.data.augment import pseudo_queries
from atnas_jax.devices import Axis
from atnas_jax.evaluate import drop_infeasible, evaluate
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, Episode, MetaLearner, Params, Strategy


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


def pseudo_episodes(
    key: Array, support_x: Array, support_y: Array, labels: np.ndarray, *, folds: int, copies: int
) -> Episode:
    """Make episodes out of a support set.

    Args:
        key: consumed.
        support_x: float32 [S,H,W,C].
        support_y: int32 [S].
        labels: the same labels on the host, since they decide shapes; int [S].
        folds: the largest number of folds where every class has two images or more.
        copies: moved copies of each image where a class has only one.

    Returns:
        An Episode with a leading T = number of folds, or 1.
    """
    if np.bincount(labels).min() >= 2:
        learn, held = support_folds(labels, folds)
        return Episode(support_x[learn], support_y[learn], support_x[held], support_y[held])
    moved = pseudo_queries(key, support_x, copies)
    return jax.tree.map(lambda x: x[None], Episode(support_x, support_y, moved, jnp.repeat(support_y, copies)))


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
) -> tuple[Array, Array]:
    """Search for the genotype that does best on pseudo-episodes; jittable.

    Fitness is the negative mean loss: a handful of pseudo-queries makes accuracy too coarse to rank by. Or it is a
    `score`, such as a proxy on the support, that trains nothing.

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

    Returns:
        (the best genotype int32 [E], its fitness float32 []).
    """
    first, rest = jax.random.split(key)

    def generation(state, key):
        genotypes = strategy.ask(key, state)
        masks = mask_of(space, genotypes)
        if score is None:
            fitness = evaluate(learner, params, masks, episodes, _negative_loss, batch, axis).fitness
        else:
            fitness = score(masks)[:, None]
        return strategy.tell(state, genotypes, drop_infeasible(feasible, genotypes, fitness)), None

    state, _ = jax.lax.scan(generation, strategy.init(first, warm), jax.random.split(rest, generations))
    return strategy.best(state), state.best_fitness


def _negative_loss(accuracy: Array, loss: Array) -> Array:
    del accuracy
    return -loss.mean(1, keepdims=True)
