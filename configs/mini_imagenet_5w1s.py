"""mini-ImageNet, 5-way 1-shot: 84x84 colour, 64 / 16 / 20 classes (Ravi & Larochelle 2017).

Data: a tar file, made as docs/own_data.md says, beside the repository, 30 images a class; with all 600:
    --config.data.source=PATH, a folder or .tar of split/class/image.
Published with 600 images a class, transductive: MAML 48.70 +- 1.84, T-NAS 52.84 +- 1.41, T-NAS++ 54.11 +- 1.35
    (Lian et al. 2020). No number holds for 30 images a class; only rows of one results.json compare.
Measured, 300 episodes, seed 0: best 38.08 +- 0.98 inductive, 39.82 +- 0.99 transductive, of 97,205 parameters and 47.5
    million multiply-adds (chain:d5/conv3-32/conv3-48/conv3-64/conv3-48/conv3-48/conv3-32/none); random architectures
    37.46 +- 0.86 and 38.80 +- 0.89, paired 0.62 +- 0.53 and 1.02 +- 0.54 behind; a random search on each support 38.33
    and 39.84. The trial on meta_valid: searching a support is -0.40 +- 0.36 away from best, so adapted is best. 8,000
    training episodes of 20 ways, which end at 37 %; --config.meta_test.conv4=False, 1 h 22 min of one core
    (--cpu_devices=1) beside other runs, commit d9fcc42. The recipe before, 4,000 episodes of 5 ways and strides: best
    28.67 +- 0.80 and conv4 29.75 +- 0.76, and adapted 1.8 below best. The recipe is that of CIFAR-FS, not tuned here.
Hardware: 2 CPU cores. With conv4 it takes several times as long: on 84x84 images Conv4 has 97 million multiply-adds.
Command: python -m launch.search --config=configs/mini_imagenet_5w1s.py --workdir=runs/mini_imagenet_5w1s
"""

from ml_collections import ConfigDict

from atnas_jax.job.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of mini-ImageNet 5-way 1-shot."""
    config = default_config()
    config.data.source = "tar:../shared/data/mini_imagenet_30perclass.tar"
    config.data.protocol = "mini_imagenet"
    config.protocol.episodes = 300

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

    # Depth where it is cheap, on 11x11 places; the control is Conv4 in a space of its own, five times as costly.
    config.space.chain.ops = ("conv3",)
    config.space.chain.widths = (32, 48, 64)
    config.space.chain.depths = (4, 5, 6)
    config.space.chain.strides = (2, 2, 2, 1, 2, 1)
    config.space.chain.last_pool = True
    config.search.max_params = 120837  # of Conv4

    config.learner.name = "anil"
    config.learner.inner_steps = 1
    config.learner.inner_lr = 0.02

    config.search.generations = 6
    config.search.population = 12
    config.search.episodes = 60
    config.search.population_share = 0.8
    config.search.anchor = "never"
    config.meta_test.random_architectures = 2
    config.log.random_search = False
    return config
