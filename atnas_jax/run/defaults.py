"""Every setting of a run, with its default and its unit."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

ROWS = ("adapted", "best", "random_architecture", "random_search", "conv4", "zero_steps", "no_adaptation")


def default_config() -> ConfigDict:
    """Return all settings with their defaults, locked: a name that is not here is refused.

    A `configs/NAME.py` starts from it, changes what differs and returns it.
    """
    config = {"seed": 0}  # root of every random number but those of the evaluation episodes
    for section in (_data_and_episodes(), _network(), _learning(), _search(), _reporting()):
        config.update(section)
    return ConfigDict(config).lock()


def _data_and_episodes() -> dict:
    return {
        "data": {
            "source": "glyphs",  # or "glyphs-color", "tfds:NAME", or a path: .npz, folder or .tar of split/class/image
            "split": "",  # of the classes, see data/splits.py; "" is the source's own
            "protocol": "",  # of data/protocols.py: sets split, size and channels, and checks the counts; "" is none
            "image_size": 0,  # height and width, pixels; 0 keeps the source's
            "channels": 0,  # 1 or 3; 0 keeps the source's
            "difficulty": 1.0,  # glyphs only: strength of the random warp, 0 is none
            "cache_dir": "",  # folder of made glyphs; "" is $ATNAS_CACHE or ~/.cache/atnas_jax
        },
        "protocol": {  # the episodes of meta_valid and meta_test, the same for every method
            "ways": 5,
            "shots": 1,
            "queries": 15,  # per class
            "episodes": 600,  # of meta_test, per row
            "seed": 0,  # of the evaluation episodes alone
        },
        "train": {  # the episodes and the outer optimiser of meta-training
            "ways": 5,
            "shots": 1,
            "queries": 5,  # per class
            "tasks": 4,  # T, episodes of one outer step
            "task_batch": 1,  # of them differentiated together; more than 1 needs net.execution "folded"
            "steps": 2000,  # outer steps in all, warm-up and generations together
            "chunk": 50,  # outer steps of one dispatch to the device
            "rotations": True,  # classes turned by 90, 180, 270 degrees count as new classes, in meta_train only
            "flip": False,  # mirror images at random, in meta_train only
            "warmup": 0.3,  # share of the steps before the first generation
            "outer_lr": 1e-3,  # Adam
            "schedule": "cosine",  # "cosine" to 0 over the steps, or "constant"
            "clip": 10.0,  # largest global norm of an outer gradient; 0 is no limit
        },
    }


def _network() -> dict:
    return {
        "space": {
            "family": "chain",  # "chain" or "cell"; the other one's settings are ignored
            "chain": {
                # for all blocks, or a tuple of such tuples, one per block
                "ops": ("conv3", "conv5", "sep3", "identity"),
                "widths": (16, 32),  # output channels to choose from, ascending
                "depths": (2, 3, 4),  # active blocks to choose from, ascending; the last is the number of blocks
                "strides": (2, 2, 2, 2),  # per block, 1 or 2
                "downsample": "pool",  # "pool": 2x2 max-pooling after norm and relu; "stride": the op strides
                "residual": False,  # a block adds its input
            },
            "cell": {
                "ops": ("conv3", "sep3", "max3", "avg3", "identity"),
                "nodes": 3,  # intermediate nodes of a cell
                "layers": 4,  # cells
                "reductions": (1, 3),  # indices of the cells that halve the image, ascending
                "channels": 16,
                "stem_stride": 1,  # 1 or 2
            },
        },
        "net": {
            "normalisation": "support",  # whose statistics; only "batch_transductive" looks at other query images
            "readout": "flatten",  # how the last feature map becomes the embedding: "flatten" or "mean"
            "execution": "switch",  # "switch": one branch runs; "folded": all linear ops as one kernel
            "dtype": "float32",  # what the body computes in; "bfloat16" for devices that are faster so
            "conv": "auto",  # how a convolution is computed, see nets/conv.py
        },
    }


def _learning() -> dict:
    return {
        "learner": {
            "name": "maml",
            "head": "prototypes",  # how the last layer starts in each task
            "inner_steps": 1,
            "inner_lr": 0.1,
            "inner_optimiser": "sgd",  # or "momentum", "adam"
            "eval_inner_steps": -1,  # of evaluation and novel tasks; -1 is inner_steps
        },
        "adapt": {  # the search on the support set of one novel task
            "generations": 2,
            "population": 8,
            "folds": 5,  # of the support set where shots >= 2, at most `shots`
            "copies": 4,  # augmented copies of a support image as pseudo-queries where shots = 1
        },
    }


def _search() -> dict:
    return {
        "search": {
            "strategy": "genetic",
            "generations": 10,
            "population": 16,
            "episodes": 32,  # of meta_valid, per generation, the same for the whole population
            # "halving": who is behind on the first episodes of a generation is not scored on the rest; "none": all are
            # scored on all. Several objectives never race, as who loses by one may win by another.
            "racing": "halving",
            "batch": 1,  # pairs of genotype and episode evaluated together; more than 1 needs net.execution "folded"
            "options": _strategy_options(),
            "sampler": "fair",  # of the masks that train: "fair" (every op once per round) or "uniform"
            # When the first episode of a step trains the hand-made network, as the sandwich rule trains the largest one
            # (BigNAS, Yu et al. 2020): "always", "warmup" (until the first generation) or "never".
            "anchor": "warmup",
            "population_share": 0.5,  # share of the training masks drawn from the population, after the warm-up
            "objectives": ("accuracy",),  # first "accuracy"; then "params" or "macs", to be small
            "max_params": 0,  # limit of a subnet; 0 is none
            "max_macs": 0,  # limit of a subnet, multiply-accumulates of one image; 0 is none
        },
    }


def _strategy_options() -> dict:
    # Of the strategy, by its own names; None is its own default. One that it does not know must stay None.
    return {
        "elites": placeholder(int),
        "immigrants": placeholder(int),
        "selection": placeholder(str),
        "parents": placeholder(float),
        "tournament_size": placeholder(int),
        "crossover_rate": placeholder(float),
        "mutation_rate": placeholder(float),
        "tries": placeholder(int),
        "sample": placeholder(int),  # of "regularised"
        "children": placeholder(int),  # of "regularised"
        # Of "nao" and "predictor", which learn from a pool of evaluated genotypes.
        "seeds": placeholder(int),  # evaluations of random genotypes before the first fit
        "refit": placeholder(int),  # evaluations between fits
        "pool": placeholder(int),  # genotypes; new ones replace the worst
        "climb_steps": placeholder(int),  # of the ascent, the largest step size
        "predictor": placeholder(str),  # of "predictor": "ridge", "gp", "mlp" or "nao"
        "proposer": placeholder(str),  # of "predictor": "rank_mutated", "ucb" or "ascent"
        "candidates": placeholder(int),  # of "rank_mutated" and "ucb", ranked per ask
        "kappa": placeholder(float),  # of "ucb", deviations added to the mean
        "fit_steps": placeholder(int),  # of "nao", steps of Adam per fit
        "embedding": placeholder(int),  # of "nao", length of the vector of a choice
        "hidden": placeholder(int),  # of "nao", state of its LSTMs
        "learning_rate": placeholder(float),  # of "nao"
        "targets": placeholder(str),  # of "nao": "rank", or "minmax" as published
    }


def _reporting() -> dict:
    return {
        "meta_test": {
            "rows": ROWS,  # what is reported
            "random_architectures": 8,  # averaged in the row random_architecture
            "other_normalisation": True,  # report also under the other of inductive and transductive
            "conv4": True,  # train the hand-made net alone by the same recipe, for its row
        },
        "log": {
            "checkpoint_minutes": 5.0,
            "keep": 2,  # checkpoints
        },
    }
