"""A small data set in which every image says which class and which item it is."""

import numpy as np
import pytest

from atnas_jax.data.table import DataSet, build_dataset

SIZES = (4, 9, 5, 7, 6, 12, 4, 8, 5, 6)  # images of each class, unequal on purpose
SPLIT = ("meta_train",) * 6 + ("meta_valid",) * 2 + ("meta_test",) * 2


@pytest.fixture(scope="session")
def marked() -> DataSet:
    """Image i of class k is [8,8,1] with pixel (0,0) = k, pixel (0,1) = i, and 255 in the row below."""
    labels = np.repeat(np.arange(len(SIZES)), SIZES)
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    images[:, 0, 0, 0] = labels
    images[:, 0, 1, 0] = np.concatenate([np.arange(size) for size in SIZES])
    images[:, 1] = 255
    return build_dataset(images, labels, SPLIT)
