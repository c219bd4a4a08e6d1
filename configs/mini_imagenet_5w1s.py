"""mini-ImageNet, 5-way 1-shot: 84x84 colour, 64 / 16 / 20 classes (Ravi & Larochelle 2017).

Data: a tar file beside the repository with 30 images a class; with all 600: --config.data.source=PATH, a folder or .tar
    of split/class/image.
Published with 600 images a class, transductive: MAML 48.70 +- 1.84, T-NAS 52.84 +- 1.41, T-NAS++ 54.11 +- 1.35
    (Lian et al. 2020). No number holds for 30 images a class; only rows of one results.json compare.
Expected here: not yet measured.
Command: python -m launch.search --config=configs/mini_imagenet_5w1s.py --workdir=runs/mini_imagenet_5w1s
"""

from ml_collections import ConfigDict

from atnas_jax.run.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of mini-ImageNet 5-way 1-shot."""
    config = default_config()
    config.data.source = "../shared/data/mini_imagenet_30perclass.tar"
    config.data.protocol = "mini_imagenet"

    config.train.rotations = False  # a rotated photograph is no new class
    config.train.flip = True
    config.train.steps = 20000
    config.train.queries = 15
    config.space.chain.widths = (32, 48)
    config.learner.inner_steps = 5
    config.learner.inner_lr = 0.01

    config.search.generations = 20
    config.search.population = 24
    config.search.episodes = 64
    return config
