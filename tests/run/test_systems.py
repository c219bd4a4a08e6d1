"""Training as in FairNAS within a task, and with channels in Once-for-All's order, by the programs of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.reorder import reordering
from atnas_jax.job.spaces import hand_made, make_space
from atnas_jax.job.state import init_state
from atnas_jax.meta.scale_shift import scale_and_shift
from atnas_jax.nets.reorder import channel_groups, channel_orders, read_norms, reordered
from atnas_jax.run.steps import make_programs
from atnas_jax.search.samplers import stage_at
from atnas_jax.search.sampling import width_openings
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.extremes import opening_stages
from atnas_jax.space.slots import mask_of
from atnas_jax.types import MetaState

TWO_TASKS = {"train.tasks": 12, "train.steps": 2, "train.chunk": 1, "search.generations": 1, "train.warmup": 0.0}
WITHIN = TWO_TASKS | {"train.masks_per_task": 6, "search.anchor": "never"}
SORTED = {
    "search.sampler": "progressive",
    "search.progressive": ("width",),
    "search.open_by": 0.5,
    "search.reorder_channels": True,
}


def parts_of(config):
    check_config(config)
    parts = build(config)
    return parts, make_programs(config, parts, None, {"compile_s": 0.0}), init_state(config, parts)


def body_after(program, parts, meta, masks):
    """Return the body after one chunk, of a copy that the program uses up."""
    return program(jax.tree.map(jnp.copy, meta), masks, parts.dataset.table)[0].params["body"]


def alike(one, other, atol=1e-5):
    return all(np.allclose(a, b, atol=atol) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_strict_fairness_within_each_task(tiny):
    """6 sub-steps of each of two tasks: all choices as often, one update, which their order within a task leaves."""
    parts, programs, state = parts_of(tiny(WITHIN))
    masks = programs.draw(state.search, jnp.int32(0), jnp.float32(0.0), jnp.asarray(False))
    assert masks.shape[:2] == (1, 12)
    counts = np.asarray(masks).reshape(2, 6, *masks.shape[2:]).sum(1)
    cards = np.asarray(parts.space.cards)
    np.testing.assert_array_equal(
        counts, np.broadcast_to((np.arange(3) < cards[:, None]) * 6 // cards[:, None], counts.shape)
    )

    def after(order):
        return body_after(programs.train, parts, state.meta, masks[:, np.asarray(order)])

    first = after(range(12))
    assert alike(after([3, 0, 5, 1, 4, 2, 6, 11, 10, 7, 9, 8]), first)
    assert not alike(after([*range(6, 12), *range(6)]), first)  # the masks of one task on the other's episode
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), first, state.meta.params["body"])
    assert all(jax.tree.leaves(moved))
    # The control has one mask, and an episode for each task.
    plain = parts_of(tiny(TWO_TASKS))[1]
    fixed = jnp.broadcast_to(mask_of(parts.space, hand_made(parts.space)), masks.shape)
    one, other = (body_after(p.control, parts, state.control, fixed) for p in (programs, plain))
    assert alike(one, other, 0.0) and plain.control is plain.train
    assert not alike(body_after(programs.train, parts, state.control, fixed), one)


def test_channels_are_sorted_once_when_a_narrower_width_opens(tiny):
    """8 steps in chunks of 2, width 4 beside 8 from step 4 on."""
    parts, programs, state = parts_of(tiny(SORTED))
    plain = parts_of(tiny(SORTED | {"search.reorder_channels": False}))[1]
    masks = jnp.broadcast_to(mask_of(parts.space, hand_made(parts.space)), (2, 2, parts.space.num_slots, 3))
    for step in (2, 6):
        meta = state.meta._replace(step=jnp.int32(step))
        assert alike(*(body_after(p.train, parts, meta, masks) for p in (programs, plain)))
    meta = state.meta._replace(step=jnp.int32(4))
    orders = channel_orders(parts.space, meta.params["body"], channel_groups(parts.space, False))
    found = body_after(programs.train, parts, meta, masks)
    assert alike(found, body_after(plain.train, parts, reordered(meta, orders), masks))
    assert not alike(found, body_after(plain.train, parts, meta, masks), 1e-2)
    assert (np.diff(read_norms(parts.space, meta.params["body"])[0]) > 0).any()
    assert alike(*(body_after(p.control, parts, meta, masks) for p in (programs, plain)))


def test_channels_are_sorted_by_the_scaled_weights_that_read_them(tiny):
    config = tiny(SORTED | {"learner.name": "mtl", "learner.freeze_after": 4})
    check_config(config)
    space, rng = make_space(config), np.random.default_rng(0)
    params = evaluation_learner(config, space, (10, 10, 1), 3).init(jax.random.key(0)).params
    params["scale_shift"] = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), params["scale_shift"])
    found = reordering(config, space)(MetaState(jnp.int32(4), params, ())).params
    scaled = [scale_and_shift(own["body"], own["scale_shift"]) for own in (params, found)]
    before, after = (read_norms(space, body)[0] for body in scaled)
    np.testing.assert_allclose(after, np.sort(before)[::-1], rtol=1e-5)


@pytest.mark.parametrize("order", [("op", "depth", "width"), ("width",), ("width", "op")])
@pytest.mark.parametrize("opened", [0, 3, 50])
def test_widths_open_where_the_stages_say(order, opened):
    space = chain_space(ChainSpec((("conv5", "conv3", "identity"),) * 2, (2, 4, 8), (1, 2), (1, 1)))
    stages, steps = opening_stages(space, order), np.arange(60)
    at = stages[np.asarray(stage_at(jnp.asarray(steps), len(stages), opened))][:, [2, 4]]
    changes = [step for step in steps[1:] if (at[step] != at[step - 1]).any()]
    assert list(width_openings(space, order, opened)) == changes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train.masks_per_task": 3}, "train.tasks 2 is not a multiple of train.masks_per_task 3"),
        (SORTED | {"search.sampler": "fair"}, "take search.sampler 'progressive'"),
        (SORTED | {"search.progressive": ("op",)}, "'width' in search.progressive"),
        (SORTED | {"space.family": "cell"}, "space.family 'cell' has none"),
        (SORTED | {"net.normalisation": "group"}, "groups of net.normalisation 'group'"),
        (SORTED | {"space.chain.residual": True}, "finds no channels to sort"),
        (SORTED | {"learner.head": "vector"}, "finds no channels to sort"),
    ],
)
def test_what_contradicts_itself_is_refused(tiny, changes, says):
    config = tiny(changes)
    with pytest.raises(ValueError, match=says) as caught:
        check_config(config)
        build(config)
    assert "\n" not in str(caught.value)
