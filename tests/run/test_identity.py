"""What a function is made of: the same digest for the same, another for anything else."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from atnas_jax.job.build import build
from atnas_jax.job.identity import identity
from atnas_jax.run.steps import make_train


class Pair(NamedTuple):
    left: int
    right: float


@dataclass(frozen=True)
class Field:
    values: tuple[int, ...]


def over(value, default=0):
    def function(x, shift=default):
        return x * 1 + shift, value

    return function


def plus(x, y):
    return x + y


class Thing:
    def method(self, x):
        return x


def scaled(slope):
    """Return the identity whose derivative is `slope`, by a rule of its own."""
    function = jax.custom_vjp(lambda x: x)
    function.defvjp(lambda x: (x, None), lambda _, g: (slope * g,))
    return function


def dense(features):
    return nn.Dense(features).apply


VALUES = [
    *(None, 1, 1.0, True, "1", b"1", (1,), [1], (1, 2), ((1,), 2), {"a": 1}, {"a": 2}, {"b": 1}, {1}, {1, 2}),
    *(np.arange(3), np.arange(4), np.arange(3.0), jnp.arange(3), np.arange(3)[None], np.float32(1), np.dtype("int8")),
    *(Pair(1, 2.0), Pair(2, 2.0), Field((1,)), Field((2,)), ConfigDict({"a": 1}), ConfigDict({"a": 2})),
    *(plus, over(1), over(2), jax.jit(plus), functools.partial(plus, 1), functools.partial(plus, y=1), max, Pair),
    *(dense(2), dense(3), jnp, lambda x: x + 1, lambda x: x + 2, jax.random.key(0), jax.random.key(1)),
    *((b"ab", b"c"), (b"a", b"bc"), {"a": 1}.get, {"a": 2}.get, scaled(2.0), scaled(3.0)),
]


def test_each_value_has_a_digest_of_its_own():
    found = [identity(over(value)) for value in VALUES]
    assert None not in found and len(set(found)) == len(VALUES)
    assert identity(over(1, default=1)) != identity(over(1))


@pytest.mark.parametrize("make", [lambda: over({"a": (np.arange(3), jax.jit(over(2)))}), lambda: dense(2)])
def test_what_is_made_again_has_the_same_digest(make):
    assert identity(make()) == identity(make())


def test_a_function_that_knows_itself_ends():
    def down(x):
        return down(x - 1) if x else x

    assert identity(down) == identity(down)


def test_what_is_not_known_has_none():
    gone = jnp.arange(3)
    gone.delete()
    assert [identity(over(value)) for value in (object(), Thing().method, gone)] == [None] * 3


def test_a_program_of_a_run_depends_on_its_config_and_data_and_on_no_trace_before(tiny):
    def digest(changes):
        config = tiny(changes)
        parts = build(config)
        train = make_train(config, parts, parts.learner)
        first = identity(train)
        parts.learner.init(jax.random.key(0))
        return first, identity(train)

    first, after = digest({})
    assert first is not None and first == after == digest({})[0]
    for changes in ({"train.outer_lr": 0.02}, {"search.episodes": 5}, {"data.source": "glyphs"}):
        assert digest(changes)[0] not in (first, None)
