"""mini-ImageNet, 5-way 1-shot: 84x84 colour, 64 / 16 / 20 classes (Ravi & Larochelle 2017).

Data: a tar file, made as docs/own_data.md says, beside the repository, 30 images a class; with all 600:
    --config.data.source=PATH, a folder or .tar of split/class/image.
Published with 600 images a class, transductive: MAML 48.70 +- 1.84, T-NAS 52.84 +- 1.41, T-NAS++ 54.11 +- 1.35
    (Lian et al. 2020). No number holds for 30 images a class; only rows of one results.json compare.
Measured, 300 episodes, seed 0, the tar file unpacked: best 28.67 +- 0.80 inductive, 28.49 +- 0.82 transductive; conv4
    29.75 +- 0.76 and 29.84 +- 0.75; 17 minutes on 2 CPU cores shared with another run. Again with adapt.margin 4:
    adapted 26.72 +- 0.75 and best 28.51 +- 0.79, inductive: the search on one photograph a class does harm.
Hardware: 2 CPU cores, minutes; this shows that the path works, not how far it goes. For accuracy raise train.steps
    and the widths to 48, on an accelerator.
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
