"""CIFAR-FS, 5-way 1-shot: 32x32 colour, 64 / 16 / 20 classes of CIFAR-100 (Bertinetto et al. 2019).

Data: an npz file, made as docs/own_data.md says, beside the repository, 60 images a class; elsewhere, or all 600:
    --config.data.source=PATH.
Published: no number holds for 60 images a class; only rows of one results.json compare.
Measured, 600 episodes, seed 0: best 42.17 +- 0.87 inductive, 43.27 +- 0.89 transductive; conv4 42.32 +- 0.83 and
    43.77 +- 0.86; 14 minutes on 2 CPU cores shared with another run.
Hardware: 2 CPU cores, minutes; this shows that colour works, not how far it goes.
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
    config.train.ways = 10
    config.train.queries = 5
    config.train.tasks = 2
    config.train.steps = 3000

    config.space.chain.ops = (("conv3", "conv5"),) + (("conv3", "sep3", "max3", "identity"),) * 3
    config.space.chain.widths = (24, 48)
    config.space.chain.downsample = "stride"

    config.learner.name = "anil"
    config.learner.inner_steps = 2
    config.learner.inner_lr = 0.02

    config.search.generations = 6
    config.search.population = 10
    config.search.episodes = 40
    config.search.population_share = 0.75
    return config
