"""The smallest config with every part of a run in it; give its data by data.source."""

from ml_collections import ConfigDict

from atnas_jax.job.defaults import default_config


def get_config() -> ConfigDict:
    """Return settings of which each step takes milliseconds."""
    config = default_config()
    config.update(
        {
            "protocol": {"ways": 3, "queries": 2, "episodes": 6},
            "train": {"ways": 3, "queries": 2, "tasks": 2, "steps": 8, "chunk": 2, "outer_lr": 0.01},
            "learner": {"name": "anil"},
            # With the default margin all tasks of three images keep the shared best, and tests ask what a task chose.
            "adapt": {"population": 4, "copies": 2, "margin": 1.0, "trials": 0},
            "search": {"generations": 2, "population": 4, "episodes": 4},
            "meta_test": {"random_architectures": 2},
            "log": {"checkpoint_minutes": 0.0},
        }
    )
    config.space.chain.ops = (("conv3", "sep3"), ("conv3", "max3", "identity"))
    config.space.chain.update({"widths": (4, 8), "depths": (1, 2), "strides": (2, 2)})
    return config
