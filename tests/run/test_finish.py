"""The finish of a run: after the last generation the shared best, chosen for good, trains alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.job.build import build
from atnas_jax.job.progress import make_progress
from atnas_jax.job.state import init_state
from atnas_jax.run import units
from atnas_jax.run.generation import Run
from atnas_jax.space.slots import mask_of

CHOSEN = jnp.asarray([1, 1, 0, 2, 1])


@pytest.mark.parametrize(("finish", "searches"), [(0.0, 4), (0.25, 3), (0.5, 2)])
def test_what_trains_and_when_the_best_is_chosen(tiny, monkeypatch, finish, searches):
    config = tiny({"train.finish": finish, "train.warmup": 0.25, "search.generations": 2})
    parts, trained, done = build(config), [], []
    sampled = jnp.zeros((2, 2, *mask_of(parts.space, CHOSEN).shape))

    class Programs:
        draw = staticmethod(lambda *_: sampled)

    def train(run, meta, masks, *_):
        trained.append(np.asarray(masks))
        return meta

    def remember(name, result):
        return lambda run, state: (done.append((name, len(trained))), result(state))[1]

    monkeypatch.setattr(units, "train", train)
    monkeypatch.setattr(units, "generation", remember("generation", lambda state: state))
    monkeypatch.setattr(units, "rank_again", remember("ranked", lambda state: CHOSEN))
    run = Run("", config, parts, Programs(), None, make_progress({}, quiet=True), {"history": []})
    state = init_state(config, parts)
    for unit in range(4):
        state = units.search_unit(run, state, unit)

    for unit, masks in enumerate(trained):
        expected = np.broadcast_to(mask_of(parts.space, CHOSEN), masks.shape) if unit >= searches else sampled
        np.testing.assert_array_equal(masks, expected)
    generations = [after for name, after in done if name == "generation"]
    assert len(generations) == 2 and generations[-1] == searches
    assert [entry for entry in done if entry[0] == "ranked"] == ([("ranked", searches)] if finish else [])
    assert not finish or (state.best == CHOSEN).all()
