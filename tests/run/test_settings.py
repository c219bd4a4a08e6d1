"""Settings of the search that change which masks train and what they learn, each against the run's own programs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.devices import on_mesh
from atnas_jax.evidence.choose import chooser
from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.proxy import make_proxy
from atnas_jax.job.spaces import make_space
from atnas_jax.job.state import init_state
from atnas_jax.meta.held import norms_of_step
from atnas_jax.meta.scale_shift import scale_and_shift
from atnas_jax.proxies import PROXIES
from atnas_jax.run.steps import make_programs
from atnas_jax.space.extremes import largest, smallest
from atnas_jax.space.slots import genotype_of, mask_of


@pytest.fixture(scope="module")
def base(tiny):
    """Parts of the tiny run with a population of six, and its first state."""
    config = tiny({"search.population": 6})
    parts = build(config)
    return parts, init_state(config, parts)


def _drawn(tiny, base, sampler, step, **changes):
    """Return the rows [chunk,T,E] that train from an outer step on, without anchor and population."""
    config = tiny({"search.sampler": sampler, "search.anchor": "never"} | changes)
    check_config(config)
    (parts, state), clock = base, {"compile_s": 0.0}
    draw = make_programs(config, parts, None, clock).draw
    masks = draw(state.search, jnp.int32(step), jnp.float32(0.0), jnp.asarray(False))
    return np.asarray(genotype_of(parts.space, masks))


def test_the_sampler_is_the_one_of_the_config(tiny, base):
    space, population = base[0].space, np.asarray(base[1].search.population)
    rows = _drawn(tiny, base, "sandwich", 0)
    assert (rows[:, 0] == smallest(space)).all() and (rows[:, 1] == largest(space)).all()
    rows = _drawn(tiny, base, "pool", 0)
    assert all((population == row).all(-1).any() for row in rows.reshape(-1, space.num_slots))
    rows = _drawn(tiny, base, "policy", 0)  # before the first tell, genetic asks for its population
    np.testing.assert_array_equal(rows.reshape(-1, space.num_slots), population[: rows.shape[0] * rows.shape[1]])


def test_progressive_opens_over_its_share_of_the_steps(tiny, base):
    """Of 80 steps half: 1 + 3 (ops) + 1 (depth) + 1 (width) stages at most, the last of which starts at step 40."""
    open_late = {"train.steps": 80, "train.chunk": 20, "train.tasks": 4, "search.open_by": 0.5}
    space = base[0].space
    rows = _drawn(tiny, base, "progressive", 0, **open_late)
    assert (rows[:8] == largest(space)).all() and (rows[8:] != largest(space)).any()
    widths_first = {"search.progressive": ("width", "depth", "op")}
    rows = _drawn(tiny, base, "progressive", 10, **open_late | widths_first)
    assert len(np.unique(rows[..., 2])) == 2 and len(np.unique(rows[..., 1])) == 1
    rows = _drawn(tiny, base, "progressive", 40, **open_late)
    for slot, card in enumerate(space.cards):
        assert len(np.unique(rows[..., slot])) == card


def test_distillation_changes_the_steps_of_the_search_and_not_those_of_the_control(tiny, base):
    assert base[0].control.learner is base[0].learner
    config = tiny({"train.distill": 5.0})
    check_config(config)
    parts = build(config)
    programs = make_programs(config, parts, None, {"compile_s": 0.0})
    found, start = {}, base[1].meta
    for name, genotype in (("train", smallest), ("control", smallest), ("train", largest), ("control", largest)):
        mask = mask_of(parts.space, jnp.asarray(genotype(parts.space)))
        masks = jnp.broadcast_to(mask, (2, 2, *mask.shape))
        meta = jax.tree.map(jnp.copy, start)  # which the programs use up
        found[name, genotype] = getattr(programs, name)(meta, masks, parts.dataset.table)[0].params["body"]

    def gap(genotype):
        pairs = zip(*(jax.tree.leaves(found[name, genotype]) for name in ("train", "control")), strict=True)
        return max(float(jnp.abs(a - b).max()) for a, b in pairs)

    assert gap(smallest) > 1e-3 and gap(smallest) > 100 * gap(largest)


def _asked(tiny, base, **changes):
    """Return what the second generation asks for."""
    config = tiny({"search.population": 6, "search.prefilter_factor": 5} | changes)
    check_config(config)
    parts, state = base
    programs = make_programs(config, parts, None, {"compile_s": 0.0})
    told = jnp.asarray([0.5, 0.9, 0.1, 0.2, 0.3, 0.8])[:, None]
    search = parts.strategy.tell(state.search, state.search.population, told)
    return np.asarray(programs.ask(search, jnp.int32(1), state.meta.params, parts.dataset.table))


def test_a_prefilter_asks_for_more_of_what_it_likes_within_the_limits(tiny, base):
    """Elites are kept in any case; the children are larger than those asked without it, but within the limit."""
    cost = base[0].cost
    plain = _asked(tiny, base)
    costs = np.asarray(cost(plain))[:, 0]
    limit = int(costs[2:].max()) - 1
    asked = _asked(tiny, base, **{"search.prefilter": "params", "search.max_params": limit})
    np.testing.assert_array_equal(asked[:2], plain[:2])
    assert len(np.unique(asked, axis=0)) == 6
    children = np.asarray(cost(asked[2:]))[:, 0]
    assert (children <= limit).all() and children.mean() > costs[2:][costs[2:] <= limit].mean()
    scored = _asked(tiny, base, **{"search.prefilter": "synflow"})  # by weights, of which larger nets have more
    assert np.asarray(cost(scored[2:]))[:, 0].mean() > costs[2:].mean()


@pytest.mark.parametrize("name", PROXIES)
def test_every_proxy_is_one_number_of_the_runs_own_weights(tiny, name):
    config = tiny()
    space = make_space(config)
    learner = evaluation_learner(config, space, (10, 10, 1), 3)
    x, y = jnp.zeros((3, 10, 10, 1)), jnp.arange(3)
    params = jax.eval_shape(learner.init, jax.random.key(0)).params
    proxy = make_proxy(name, config, space, (10, 10, 1), 3)
    found = jax.eval_shape(proxy, params, mask_of(space, smallest(space)), x, y)
    assert (found.shape, found.dtype) == ((), jnp.float32)


@pytest.mark.parametrize("name", ["naswot", "synflow"])
@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"learner.name": "maml", "learner.step_norms": True}, lambda params: norms_of_step(params["body"], 0)),
        (
            {"learner.name": "mtl", "learner.freeze_after": 4},
            lambda params: scale_and_shift(params["body"], params["scale_shift"]),
        ),
    ],
    ids=["step_norms", "mtl"],
)
def test_a_proxy_sees_the_body_before_the_first_inner_step(tiny, name, changes, first):
    config = tiny(changes)
    check_config(config)
    space, shape, rng = make_space(config), (10, 10, 1), np.random.default_rng(0)
    params = evaluation_learner(config, space, shape, 3).init(jax.random.key(0)).params
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), params)
    task = mask_of(space, smallest(space)), jnp.asarray(rng.normal(size=(3, *shape))), jnp.arange(3)
    found = make_proxy(name, config, space, shape, 3)(params, *task)
    plain = make_proxy(name, tiny(), space, shape, 3)
    assert float(found) == pytest.approx(float(plain({"body": first(params)}, *task)), rel=1e-5)
    if "scale_shift" in params:
        assert abs(float(found) - float(plain({"body": params["body"]}, *task))) > 1e-2


def test_a_novel_task_may_choose_by_a_proxy_of_its_support(tiny, base):
    """36 evaluations of 48 genotypes, warm-started from one alone, end in the best tenth by the proxy."""
    config = tiny({"adapt.score": "synflow", "adapt.population": 12, "adapt.generations": 3})
    parts, state = base
    space = parts.space
    index, warm = jnp.arange(2), jnp.tile(smallest(space), (12, 1))
    choice = jax.jit(on_mesh(chooser(config, parts), parts.mesh))
    found = np.asarray(choice(state.meta.params, warm, jnp.asarray(False), index, parts.dataset.table))
    proxy = make_proxy("synflow", config, space, parts.image_shape, 3)  # which looks at no image
    everything = jnp.asarray(list(itertools.product(*map(range, space.cards))))
    blank = jnp.zeros((3, *parts.image_shape)), jnp.arange(3)
    score = jax.jit(lambda: jax.lax.map(lambda g: proxy(state.meta.params, mask_of(space, g), *blank), everything))
    of_all = np.asarray(score())
    for genotype in found:
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


def test_sharing_changes_the_work_and_not_the_scores(tiny, base):
    (parts, state), found = base, []
    for sharing in (True, False):
        config = tiny({"search.population": 6, "search.sharing": sharing})
        scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
        assert (scorer.blockwise is None) != sharing
        programs = make_programs(config, parts, scorer, {"compile_s": 0.0})
        asked, order = np.asarray(state.search.population), np.arange(6, dtype=np.int32)
        rungs = np.asarray([[6, 2], [3, 4]], np.int32)
        found.append(programs.fitness(state.meta.params, asked, order, rungs, np.int32(0), parts.dataset.table))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    assert int(found[0][1]) == int(found[1][1]) == 6 * 2 + 3 * 2
    np.testing.assert_array_equal(found[0][2], found[1][2])
