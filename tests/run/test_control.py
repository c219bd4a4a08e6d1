"""The control of a run, Conv4 trained alone, where the space that is searched is deeper."""

import numpy as np
import pytest

from atnas_jax.evidence.evidence import Asked
from atnas_jax.job.build import build
from atnas_jax.job.spaces import control_space
from atnas_jax.job.state import init_state
from atnas_jax.run.search import across_task_search, test_again
from atnas_jax.space.chain import ChainSpec, chain_space, hand_made
from atnas_jax.space.cost import cost_model

test_again.__test__ = False  # pytest takes it for a test

BRIEF = {"search.anchor": "never", "meta_test.rows": ("best", "conv4"), "meta_test.other_normalisation": False}
CONV4 = {"ops": (("conv3",),) * 4, "depths": (4,), "strides": (2,) * 4}
DEEPER = {"ops": (("sep3", "max3"),) * 5, "depths": (5,), "strides": (2, 1, 2, 1, 1), "last_pool": True}


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """Return the results of a run in a space of Conv4 alone, and in a deeper one, by the same recipe."""

    def results(name, chain):
        config, workdir = tiny(BRIEF), str(tmp_path_factory.mktemp(name))
        config.space.chain.update(chain)
        across_task_search(config, workdir, quiet=True)
        return test_again(workdir, {}, asked=Asked(inner_steps=(0, 1)), quiet=True)

    return results("conv4", CONV4), results("deeper", DEEPER)


def test_it_is_that_of_a_run_in_a_space_of_conv4_alone(found):
    def of_control(results):
        return results["meta_test"]["conv4"], results["evidence"]["inner_steps"]["inductive"]["conv4"]

    one, other = map(of_control, found)
    assert one == other and one[0]["accuracy"] > 0.34
    conv4 = chain_space(ChainSpec((("conv3",),) * 4, (8,), (4,), (2,) * 4, "pool"))
    costs = cost_model(conv4, (10, 10, 1), "flatten", 3)(hand_made(conv4))
    for results in found:
        row = results["meta_test"]["conv4"]
        np.testing.assert_array_equal([row["params"], row["macs"]], costs)


def test_the_searched_network_is_another(found):
    own, deeper = (results["meta_test"]["best"] for results in found)
    assert own["params"] > deeper["params"]
    assert found[1]["genotype"].startswith("chain:d5/")


def test_a_chain_of_four_blocks_has_its_own_hand_made_network_as_control(tiny):
    config = tiny({})
    parts = build(config)
    assert control_space(parts.space) is parts.space is parts.control.space
    assert parts.control.learner is parts.learner
    config.space.chain.update(DEEPER)
    config.search.anchor = "never"
    parts = build(config)
    kernels = init_state(config, parts).control.params["body"]
    assert {name: set(block) for name, block in kernels.items()} == {f"block{b}": {"conv3", "norm"} for b in range(4)}
