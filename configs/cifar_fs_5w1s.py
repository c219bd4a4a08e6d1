"""CIFAR-FS, 5-way 1-shot: 32x32 colour, 64 / 16 / 20 classes of CIFAR-100 (Bertinetto et al. 2019).

Data: an npz file, made as docs/own_data.md says, beside the repository, 60 images a class; elsewhere, or all 600:
    --config.data.source=PATH.
Published: no number holds for 60 images a class; only rows of one results.json compare.
Measured, 600 episodes, seed 0: best 52.65 +- 0.92 inductive, 54.21 +- 0.95 transductive, of 99,493 parameters and 13.0
    million multiply-adds (chain:d6/conv3-64/conv3-48/conv3-64/conv3-64/conv3-64/conv3-64/none); adapted 52.65 +- 0.92
    and 54.22 +- 0.95; conv4, trained alone on as many episodes, 50.72 +- 0.87 and 52.40 +- 0.87, 114,117 and 14.2
    million; random architectures of the same supernet 49.69 +- 0.88 and 51.64 +- 0.92. 8,000 training episodes of 20
    ways each, 64 minutes in all on one core (--cpu_devices=1) of an AMD EPYC beside other jobs. Training episodes end
    at 45 % for the supernet, of all its masks, and at 66 % for conv4. The recipe before, 6,000 episodes of 10 ways and
    strides: best 42.17 and conv4 42.32, inductive. Chosen on meta_valid, 600 episodes, single networks alone for 1,500
    episodes: outer rate 3e-3 45.07 +- 0.88, 1e-3 43.37; the mean of the places as embedding learnt more slowly, and was
    stopped. Depth, warp, margin and the rest are from Omniglot.
Command: python -m launch.search --config=configs/cifar_fs_5w1s.py --workdir=runs/cifar_fs_5w1s
"""

from ml_collections import ConfigDict

from atnas_jax.job.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of CIFAR-FS 5-way 1-shot."""
    config = default_config()
    config.data.source = "npz:../shared/data/cifar_fs_60perclass_32.npz"
    config.data.protocol = "cifar_fs"

    config.train.rotations = False  # a rotated photograph is no new class
    config.train.flip = True
    config.train.warp = 0.3
    config.train.ways = 20
    config.train.queries = 3
    config.train.tasks = 2
    config.train.steps = 4000
    config.train.warmup = 0.1
    config.train.outer_lr = 3e-3
    config.train.ema = 0.998

    # Depth where it is cheap, on 8x8 places; the control is Conv4 in a space of its own.
    config.space.chain.ops = ("conv3",)
    config.space.chain.widths = (32, 48, 64)
    config.space.chain.depths = (4, 5, 6)
    config.space.chain.strides = (2, 2, 1, 1, 2, 1)
    config.space.chain.last_pool = True
    config.search.max_params = 114117  # of Conv4

    config.learner.name = "anil"
    config.learner.inner_steps = 1
    config.learner.inner_lr = 0.02
    config.adapt.margin = 4.0  # as on Omniglot

    config.search.generations = 6
    config.search.population = 12
    config.search.episodes = 60
    config.search.population_share = 0.8
    config.search.anchor = "never"
    config.meta_test.rows = ("adapted", "best", "conv4", "random_architecture")
    config.meta_test.random_architectures = 2
    config.log.random_search = False
    return config
