"""The search on the support set of one novel task, as a config describes it: what meta-test and adaptation share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.adaptation import Carry, adapt_architecture, first_carry, make_generation
from atnas_jax.incumbent import keep_unless_better
from atnas_jax.job.proxy import support_score
from atnas_jax.pseudo import PseudoRows, pseudo_episodes
from atnas_jax.rng import stream
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, MetaLearner, Params, Strategy

LOSSES = ("loss", "mix")  # values of adapt.score that look at the loss of pseudo-queries


class Task(NamedTuple):
    """A novel task and what it starts from; arrays only."""

    key: Array  # of the search and of its pseudo-queries
    params: Params  # meta-parameters
    support_x: Array  # float32 [S,H,W,C], class by class
    support_y: Array  # int32 [S], -1 behind the others where there is padding
    rows: PseudoRows
    incumbent: Array  # int32 [E], the shared best genotype


class SupportSearch(NamedTuple):
    """A search in pieces; `choose` is all of them at once, by `adapt.generations`.

    first(task, warm [n,E] or None) -> carry
    step(carry, task, number int32 []) -> carry, one generation
    decide(carry, task) -> Choice
    choose(task, warm [n,E] or None) -> Choice
    """

    first: Callable[[Task, Array | None], Carry]
    step: Callable[[Carry, Task, Array], Carry]
    decide: Callable[[Carry, Task], "Choice"]
    choose: Callable[[Task, Array | None], "Choice"]


class Choice(NamedTuple):
    """What a search on a support set ends with."""

    genotype: Array  # int32 [E], the found one or the incumbent
    found: Array  # int32 [E], the best that was found
    gain: Array  # float32 [2]: how much better the found one is than the incumbent, nats, and its error; NaN: not asked


def make_support_search(
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    learner: MetaLearner,
    strategy: Strategy,
    ways: int,
    moved: bool,
    feasible: Feasible | None = None,
    axis: str | None = None,
) -> SupportSearch:
    """Return the search on support sets; its pieces are jittable.

    Args:
        config, space, image_shape: of the run.
        learner: adapts to tasks of so many ways.
        strategy: asks and tells.
        ways: N of the learner.
        moved: whether pseudo-queries are moved copies, see `needs_copies`.
        feasible: int32 [n,E] -> bool [n], see `adapt_architecture`.
        axis: the mapped axis of the devices, None on one.
    """
    adapt, mixed = config.adapt, config.adapt.score == "mix"
    scored = support_score(config, space, image_shape, ways, axis, learner.padded)

    def episodes_of(task: Task, key: Array):
        return pseudo_episodes(key, task.support_x, task.support_y, task.rows, moved)

    def given(task: Task):
        """Return the keys of pseudo-queries and search, and what a generation reads."""
        first, second = jax.random.split(task.key)
        score = scored(task.params, task.support_x, task.support_y)
        options = {"feasible": feasible, "axis": axis, "score": score, "mixed": mixed}
        return first, second, episodes_of(task, first), options

    def first(task: Task, warm: Array | None) -> Carry:
        start, _ = jax.random.split(jax.random.split(task.key)[1])
        return first_carry(start, strategy, warm, mixed)

    def step(carry: Carry, task: Task, number: Array) -> Carry:
        _, second, episodes, options = given(task)
        generation = make_generation(learner, space, strategy, task.params, episodes, **options)
        return generation(carry, stream(second, "generation", number))[0]

    def decide(carry: Carry, task: Task) -> Choice:
        return _decide(carry[1].genotype, task)

    def choose(task: Task, warm: Array | None) -> Choice:
        _, second, episodes, options = given(task)
        arguments = (second, learner, space, strategy, task.params, warm, episodes, adapt.generations)
        return _decide(adapt_architecture(*arguments, **options)[0], task)

    def _decide(found: Array, task: Task) -> Choice:
        if adapt.score not in LOSSES or adapt.margin < 0:
            return Choice(found, found, jnp.full(2, jnp.nan))
        # Other copies than those that the search has chosen by, so that luck with them does not count twice; of folds
        # there are no others, and there it does.
        episodes = episodes_of(task, stream(jax.random.split(task.key)[0], "decide"))
        genotype, gain = keep_unless_better(
            learner, space, task.params, task.incumbent, found, episodes, jnp.asarray(task.rows.held),
            len(task.support_y), adapt.margin, feasible=feasible, axis=axis,
        )  # fmt: skip
        return Choice(genotype, found, gain)

    return SupportSearch(first, step, decide, choose)
