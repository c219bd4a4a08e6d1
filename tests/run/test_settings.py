"""Settings of the search that change which masks train and what they learn, each against the run's own programs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.devices import on_mesh
from atnas_jax.run.build import build, evaluation_learner
from atnas_jax.run.choose import chooser, episodes_of
from atnas_jax.run.config import check_config
from atnas_jax.run.proxy import make_proxy
from atnas_jax.run.state import init_state
from atnas_jax.run.steps import make_programs
from atnas_jax.space.extremes import largest, smallest
from atnas_jax.space.slots import genotype_of, mask_of


def _drawn(tiny, sampler, step, **changes):
    """Return the rows [chunk,T,E] that train from an outer step on, without anchor and population."""
    config = tiny({"search.sampler": sampler, "search.anchor": "never"} | changes)
    check_config(config)
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, 3)
    programs, state = make_programs(config, parts, scorer, {"compile_s": 0.0}), init_state(config, parts)
    masks = programs.draw(state.search, jnp.int32(step), jnp.float32(0.0), jnp.asarray(False))
    return np.asarray(genotype_of(parts.space, masks)), parts.space, np.asarray(state.search.population)


def test_the_sampler_is_the_one_of_the_config(tiny):
    rows, space, _ = _drawn(tiny, "sandwich", 0)
    assert (rows[:, 0] == smallest(space)).all() and (rows[:, 1] == largest(space)).all()
    rows, _, population = _drawn(tiny, "pool", 0)
    assert all((population == row).all(-1).any() for row in rows.reshape(-1, space.num_slots))
    rows, _, population = _drawn(tiny, "policy", 0)  # before the first tell, genetic asks for its population
    np.testing.assert_array_equal(rows.reshape(-1, space.num_slots), population[: rows.shape[0] * rows.shape[1]])


def test_progressive_opens_over_its_share_of_the_steps(tiny):
    """Of 80 steps half: 1 + 3 (ops) + 1 (depth) + 1 (width) stages at most, the last of which starts at step 40."""
    open_late = {"train.steps": 80, "train.chunk": 20, "train.tasks": 4, "search.open_by": 0.5}
    rows, space, _ = _drawn(tiny, "progressive", 0, **open_late)
    assert (rows[:8] == largest(space)).all() and (rows[8:] != largest(space)).any()
    widths_first = {"search.progressive": ("width", "depth", "op")}
    rows, _, _ = _drawn(tiny, "progressive", 10, **open_late | widths_first)
    assert len(np.unique(rows[..., 2])) == 2 and len(np.unique(rows[..., 1])) == 1
    rows, _, _ = _drawn(tiny, "progressive", 40, **open_late)
    for slot, card in enumerate(space.cards):
        assert len(np.unique(rows[..., slot])) == card


def test_distillation_changes_the_steps_of_the_search_and_not_those_of_the_control(tiny):
    states = {}
    for weight in (0.0, 5.0):
        config = tiny({"train.distill": weight})
        check_config(config)
        parts = build(config)
        programs = make_programs(config, parts, None, {"compile_s": 0.0})
        mask = mask_of(parts.space, jnp.asarray(smallest(parts.space)))
        masks = jnp.broadcast_to(mask, (2, 2, *mask.shape))
        for program in ("train", "control"):
            meta = init_state(config, parts).meta
            states[program, weight] = getattr(programs, program)(meta, masks, parts.dataset.table)[0].params["body"]
        assert (programs.train is programs.control) == (weight == 0)

    def gap(program):
        pairs = zip(*(jax.tree.leaves(states[program, weight]) for weight in (0.0, 5.0)), strict=True)
        return max(float(jnp.abs(a - b).max()) for a, b in pairs)

    assert gap("control") == 0.0 and gap("train") > 1e-3


def _asked(tiny, **changes):
    """Return what the second generation asks for, its parts, and the state before it."""
    config = tiny({"search.population": 6, "search.prefilter_factor": 5} | changes)
    check_config(config)
    parts = build(config)
    state, programs = init_state(config, parts), make_programs(config, parts, None, {"compile_s": 0.0})
    told = jnp.asarray([0.5, 0.9, 0.1, 0.2, 0.3, 0.8])[:, None]
    search = parts.strategy.tell(state.search, state.search.population, told)
    return np.asarray(programs.ask(search, jnp.int32(1), state.meta.params, parts.dataset.table)), parts


@pytest.mark.parametrize("name", ["naswot", "grad_norm", "params"])
def test_a_prefilter_asks_for_more_of_what_it_likes_within_the_limits(tiny, name):
    """Children (elites are kept in any case) rank higher by the score than those that were asked without it."""
    plain, parts = _asked(tiny)
    asked, _ = _asked(tiny, **{"search.prefilter": name})
    np.testing.assert_array_equal(asked[:2], plain[:2])
    assert len(np.unique(asked, axis=0)) == 6
    if name == "params":
        limit = int(np.asarray(parts.cost(plain[2:]))[:, 0].max()) - 1
        best, free = (np.asarray(parts.cost(rows[2:]))[:, 0].mean() for rows in (asked, plain))
        assert best > free
        kept, _ = _asked(tiny, **{"search.prefilter": name, "search.max_params": limit})
        assert (np.asarray(parts.cost(kept[2:]))[:, 0] <= limit).all()
    else:
        assert (asked[2:] != plain[2:]).any()


@pytest.mark.parametrize("name", ["naswot", "synflow"])
def test_a_novel_task_may_choose_by_a_proxy_of_its_support(tiny, name):
    """36 evaluations of 48 genotypes, warm-started from one alone, end in the best tenth by the proxy."""
    config = tiny({"adapt.score": name, "adapt.population": 12, "adapt.generations": 3})
    parts = build(config)
    state, space = init_state(config, parts), parts.space
    index, warm = jnp.arange(2), jnp.tile(smallest(space), (12, 1))
    choice = jax.jit(on_mesh(chooser(config, parts), parts.mesh))
    found = choice(state.meta.params, warm, jnp.asarray(False), index, parts.dataset.table)
    episodes = episodes_of(config, parts, index, parts.dataset.table)
    proxy = make_proxy(name, config, space, parts.image_shape, 3)
    everything = jnp.asarray(list(itertools.product(*map(range, space.cards))))
    values = jax.jit(lambda x, y: jax.lax.map(lambda g: proxy(state.meta.params, mask_of(space, g), x, y), everything))
    for genotype, x, y in zip(found, episodes.support_x, episodes.support_y, strict=True):
        of_all = np.asarray(values(x, y))
        own = of_all[(np.asarray(everything) == genotype).all(-1)]
        assert own >= np.quantile(of_all, 0.9) and own > of_all[(np.asarray(everything) == warm[0]).all(-1)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"search.sampler": "sandwich", "search.anchor": "always"}, "leaves no room for both extremes"),
        ({"search.sampler": "progressive", "search.progressive": ("kernel",)}, "search.progressive has 'kernel'"),
        ({"train.distill": 1.0, "learner.name": "reptile"}, "train.distill 1.0 needs a query loss"),
        ({"search.open_by": 2.0}, "from 0 to 1"),
    ],
)
def test_what_contradicts_itself_is_refused(tiny, changes, says):
    with pytest.raises(ValueError, match=says):
        check_config(tiny(changes))
