"""Every setting of a run, with its default and its unit."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

ROWS = (
    *("adapted", "best", "permuted_architecture", "random_architecture", "random_search"),
    *("conv4", "zero_steps", "no_adaptation"),
)


def default_config() -> ConfigDict:
    """Return all settings with their defaults, locked: a name that is not here is refused.

    A `configs/NAME.py` starts from it, changes what differs and returns it.
    """
    config = {
        "seed": 0,  # root of every random number but those of the evaluation episodes
        # Whether the first start measures if these are faster here: "auto" in place of the given net.conv, the other
        # train.remat of a learner of second order, on a CPU fewer devices and, where net.execution is "folded", other
        # train.task_batch and search.batch. config.json keeps what is picked, and no column of the ledger has its
        # seconds. See run/pick.py.
        "measure": False,
        # At most so many share the work, of training and of all else; 0: as many as can share an outer step equally.
        # Fewer than there are cores of a CPU have all of them in each operation, and round otherwise.
        "devices": 0,
    }
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
            # Whether rotated classes take part in meta_test, as in MAML's own test on Omniglot: an easier task, as
            # characters that look alike meet less often. Of meta_test alone, where nothing is chosen.
            "rotations": False,
        },
        "train": {  # the episodes and the outer optimiser of meta-training
            "ways": 5,
            "shots": 1,
            "queries": 5,  # per class
            "tasks": 4,  # T, episodes of one outer step
            # Masks of the sampler that train on the same episode, their gradients summed before the optimiser acts; T
            # is a multiple of it. 1: each has its own. As many as a slot has choices, or a multiple of that, and
            # "fair" is strictly fair within every task (FairNAS), not only over the tasks of a step.
            "masks_per_task": 1,
            "task_batch": 1,  # of them differentiated together; more than 1 needs net.execution "folded"
            # Whether inner steps are computed again in the backward pass, for a memory flat in their number: "always",
            # "never", or "auto" where that takes no longer, see meta/inner.py.
            "remat": "auto",
            "steps": 2000,  # outer steps in all, warm-up and generations together
            "chunk": 50,  # outer steps of one dispatch to the device
            "rotations": True,  # classes turned by 90, 180, 270 degrees count as new classes, in meta_train only
            "mirrors": False,  # the mirror image of a class, of each rotation, counts as one more, in meta_train only
            # Whether an episode turns and mirrors all its classes alike, so that views are no classes of their own:
            # characters that look alike then meet as often as in a test without rotated classes.
            "alike": False,
            "flip": False,  # mirror images at random, in meta_train only
            "warp": 0.0,  # strength of a random affine and smooth warp of each image, in meta_train only; 0 is none
            "warmup": 0.3,  # share of the steps before the first generation
            # Share of the steps after the last generation, in which the shared best trains alone, with the weights that
            # it has. It gains what the others lose: 0 keeps the supernet fit for architectures of novel tasks.
            "finish": 0.0,
            # Whether the finish, where nothing is chosen any more, trains on the classes of meta_valid too, and conv4
            # as late: published runs on Omniglot train on 1,200 characters, which leaves none to choose by.
            "finish_valid": False,
            "outer_lr": 1e-3,  # Adam
            "schedule": "cosine",  # "cosine" to 0 over the steps, or "constant"
            # Weight of KL(largest subnet || the one that trains) in the query loss, both adapted to the same support
            # (in-place distillation, BigNAS); 0 is none. It costs one more adaptation a task.
            "distill": 0.0,
            "clip": 10.0,  # largest global norm of an outer gradient; 0 is no limit
            "clip_elements": 0.0,  # largest size of one entry of it, before that; MAML's 10 on mini-ImageNet; 0: none
            # An outer step whose loss or gradient is not finite is skipped, so the weights stay sound; after so many in
            # a row the run stops, with 1 at the first.
            "nonfinite_limit": 20,
            "weight_decay": 0.0,  # of convolution kernels, decoupled (AdamW), in units of the outer rate; 0 is none
            "first_order_steps": 0,  # outer steps at the start that drop second derivatives (MAML++); 0 is none
            # Outer steps at the start in which the query loss after every inner step counts, weights going to the last
            # one (MAML++'s multi-step loss); 0 is none.
            "every_step_loss": 0,
            # Decay of the moving average of the meta-parameters, which is then what is evaluated and saved, of the
            # supernet and of conv4 alike; 0.99 reaches back about 100 outer steps; 0 evaluates the last ones.
            "ema": 0.0,
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
                "last_pool": False,  # whether a 2x2 max-pool behind the last block is a choice too
                "elastic_kernel": False,  # conv3 and sep3 are made of the middle of conv5 and sep5, see nets/elastic.py
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
            "conv": "auto",  # how a convolution is computed, see nets/conv.py; "mixed" multiplies bfloat16 numbers
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
            "step_rates": False,  # learn an inner rate for each layer and inner step, from inner_lr on (MAML++)
            "step_norms": False,  # learn scale and bias of the norms for each inner step (MAML++)
            "leap_loss": True,  # "leap" alone: the path runs over the loss surface; False: over the weights alone
            "leap_norm": True,  # "leap" alone: segments count by length; False: by their square
            "freeze_after": 0,  # "mtl" alone: outer steps before the kernels freeze, then scales and shifts learn
            "eval_inner_steps": -1,  # of evaluation and novel tasks; -1 is inner_steps
            # Nats; evaluation and novel tasks take no further inner step once one lowers the support loss by less, or
            # the loss itself is below; 0 takes all of eval_inner_steps.
            "tolerance": 0.0,
        },
        "adapt": {  # the search on the support set of one novel task
            # "loss": of pseudo-queries after adaptation; "naswot", "grad_norm" or "synflow": before any; "mix": the
            # mean of the ranks by the loss and by naswot, see `mean_ranks` of adaptation.py.
            "score": "loss",
            # Standard errors of the paired difference by which what is found must beat the shared best genotype on
            # pseudo-queries, or that one is kept, see incumbent.py. Of one comparison on five images, luck alone passes
            # 2 in 6 % and 1, the one-standard-error rule, in 19 % (Student's t, 4 degrees of freedom). That holds for
            # moved copies, which are made anew; folds are those that the search took the best of many by, which luck
            # passes more often: 2 in 12 to 36 % of tasks (simulated: no true difference, 15 images, the best of 16).
            # -1 takes whatever is found, as does a score that looks at no pseudo-query and so has no such difference.
            "margin": 2.0,
            # Episodes of meta_valid on which a run tries that search at its end. Where what it chooses is not better
            # than the shared best by more than the interval, novel tasks with as many images a class (one, or several)
            # keep the shared best; 0 tries nothing, and all are searched.
            "trials": 100,
            "generations": 2,
            # Seconds of searching, compiling left out: generations go on until they are over, at least one; 0 is
            # `generations`. Of launch.adapt and Python alone, as a meta-test must not depend on the machine.
            "seconds": 0.0,
            "population": 8,
            "folds": 5,  # of the support set where shots >= 2, at most `shots`
            "copies": 4,  # augmented copies as pseudo-queries of a class where one has a single image
        },
    }


def _search() -> dict:
    return {
        "search": {
            "strategy": "genetic",  # or another of search/strategies.py; those BY_GRADIENT need execution "folded"
            "generations": 10,
            "population": 16,
            "episodes": 32,  # of meta_valid, per generation, the same for the whole population
            # "halving": who is behind on the first episodes of a generation is not scored on the rest; "none": all are
            # scored on all. Several objectives never race, as who loses by one may win by another.
            "racing": "halving",
            # Evaluations of a race as a share of those that it replaces; 0 halves the field whenever the number of
            # episodes has doubled, which takes a half of them for 8 genotypes, a third for 16, a fifth for 32.
            "racing_share": 0.0,
            # Chains that begin alike compute once what they share, here and on novel tasks, where the inner loop leaves
            # the body as it is ("anil", "mtl"), net.execution is "switch", batch 1, and the normalisation not that by
            # the queries: see prefixes.py. False is for comparison, as the scores are the same up to rounding.
            "sharing": True,
            # A zero-cost score at the meta-weights that picks whom to evaluate among prefilter_factor times as many:
            # "naswot", "grad_norm", "synflow", "params", "macs" (the largest), or "none".
            "prefilter": "none",
            "prefilter_factor": 4,
            "batch": 1,  # pairs of genotype and episode evaluated together; more than 1 needs net.execution "folded"
            "options": _strategy_options(),
            # "nao" learns from other encodings of the networks of its pool too, as published, see space/equivalents.py.
            "equivalents": False,
            # Of the masks that train: "fair" (every op once per round), "uniform", "sandwich" (the largest and the
            # smallest in every step), "progressive" (the largest alone, then smaller ones too), "pool" (the population)
            # or "policy" (what the strategy asks).
            "sampler": "fair",
            "progressive": ("op", "depth", "width"),  # kinds of slots that open, in order; others are always open
            "open_by": 0.3,  # share of the steps after which "progressive" has opened everything
            # Before "progressive" opens a narrower width, sort the channels by how much the next block reads them, so
            # that narrow networks keep those (Once-for-All), see nets/reorder.py.
            "reorder_channels": False,
            # When the first episode of a step trains the hand-made network, as the sandwich rule trains the largest one
            # (BigNAS, Yu et al. 2020): "always", "warmup" (until the first generation) or "never".
            "anchor": "warmup",
            # Share of the training masks, after the warm-up, that are drawn from the population or, by a gradient
            # strategy, relaxed (1 as published); the others are of the sampler.
            "population_share": 0.5,
            "objectives": ("accuracy",),  # first "accuracy"; then "params", "macs" or "latency", to be small
            "max_params": 0,  # limit of a subnet; 0 is none
            "max_macs": 0,  # limit of a subnet, multiply-accumulates of one image; 0 is none
            "max_latency_ms": 0.0,  # limit of a subnet, milliseconds by the table of search.latency; 0 is none
            "latency": "",  # JSON of launch.measure_latency
            # What becomes of a genotype beyond the limits: "reject": it is drawn again; "repair": it is made cheaper,
            # slot by slot, until it keeps them. Where neither helps, it is never the best.
            "over_limit": "repair",
            # How a cost joins what is searched by, see search/scalarise.py. Of fitness: "mnas_soft", "mnas_hard". Of
            # the loss of a gradient strategy: "add_linear", "add_hinge", "mul_log". Or "none".
            "scalarise": "none",
            "scalarise_cost": "macs",  # or "params", "latency" (milliseconds)
            "target": 0.0,  # of that cost, in its unit
            "scalarise_weight": placeholder(float),  # None is the published one
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
        "learning_rate": placeholder(float),  # of "reinforce", "nao" and of the gradient strategies
        # Of the gradient strategies, see search/gradient.py.
        "b1": placeholder(float),
        "temperature": placeholder(float),
        "temperature_min": placeholder(float),
        "prune": placeholder(float),  # of "softmax"
        "mode": placeholder(str),  # of "binary_gates": "full" or "two"
        "baseline_decay": placeholder(float),  # of "reinforce"
        "entropy": placeholder(float),  # of "reinforce"
        "step": placeholder(float),  # of "mdenas", probability moved by a comparison; of "asng", the first step
        "mean": placeholder(bool),  # of "mdenas": compare means, not the latest
        "alpha": placeholder(float),  # of "asng"
        "species": placeholder(int),  # of "coevolution", which also knows elites, parents and both rates
        "collaborators": placeholder(int),  # of "coevolution"; divides search.population
        "stages": placeholder(int),  # of "staged"
        "beam": placeholder(int),  # of "staged"
        "rounds": placeholder(int),  # of "staged": generations of a stage
        "inner": placeholder(str),  # of "staged": the search within a stage; of "islands": "genetic", "regularised"
        "islands": placeholder(int),  # of "islands"; divides search.population into 3 or more
        "migrate_every": placeholder(int),  # of "islands": generations between exchanges
        "migrants": placeholder(int),  # of "islands": genotypes that each sends to the next
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
        "targets": placeholder(str),  # of "nao": "rank", or "minmax" as published
    }


def _reporting() -> dict:
    return {
        "meta_test": {
            "rows": ROWS,  # what is reported
            "random_architectures": 8,  # averaged in the row random_architecture
            "other_normalisation": True,  # report also under the other of inductive and transductive
            "conv4": True,  # train the hand-made net alone by the same recipe, for its row, see `control_space`
        },
        # A whole data set, see many_shot/specialise.py; a meta-network takes those of the version that reads it.
        "specialise": {
            "steps": 400,  # of the training of a chosen network
            "batch": 64,  # images of a step
            "rate": 2e-3,  # AdamW, cosine to 0 over the steps
            "weight_decay": 1e-4,  # of kernels
            "every": 20,  # steps between two validations of that training
            "generations": 8,  # of every search
            "population": 12,  # of every search
            # Steps of training of a candidate that starts from the meta-weights; 0: only the head starts, as the
            # prototypes of the reference.
            "adapt_steps": 0,
            "probe_steps": 100,  # of one that starts from scratch
            "reference": 128,  # training images whose statistics normalise what is predicted, and the first prototypes
            "random_architectures": 3,
            "valid": 0.2,  # share of the images that choose
            "test": 0.2,  # share of the images that are scored once
        },
        "log": {
            "checkpoint_minutes": 5.0,
            "keep": 2,  # checkpoints
            # Score as many random genotypes as a generation has, on its weights and episodes: the curve that the report
            # compares the search with. Nothing learns from them; their seconds count as control_s.
            "random_search": True,
            "tensorboard": False,  # write the metrics as TensorBoard events too; needs the extra [tensorboard]
        },
    }
