"""Install atnas_jax: `pip install -e .`, `pip install -e ".[test]"`, `pip install -e ".[cuda]"`."""

from setuptools import find_packages, setup

setup(
    name="atnas_jax",
    version="0.1.0",
    description="Across-task neural architecture search in JAX: a meta-learned supernet and an evolved population.",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["atnas_jax", "atnas_jax.*", "launch"]),
    package_data={"atnas_jax": ["data/*.json*", "pretrained/*.npz"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8",
        "chex>=0.1.90",
        "flax>=0.12",
        "importlib_resources>=6.0",  # tensorflow-datasets imports it and does not declare it
        "jax>=0.10",
        "matplotlib>=3.8",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "Pillow>=10.0",
        "rich>=13.7",
        "scipy>=1.13",
        "tensorflow-datasets>=4.9.10",
    ],
    extras_require={
        "cuda": ["jax[cuda12]>=0.10"],
        "onnx": ["onnx>=1.19", "onnxruntime>=1.22"],
        "sklearn": ["scikit-learn>=1.6"],
        "tensorboard": ["tensorboardX>=2.6"],
        "test": [
            "hypothesis>=6.100",
            "onnx>=1.19",
            "onnxruntime>=1.22",
            "pytest>=8.0",
            "pytest-xdist>=3.7",
            "ruff>=0.12",
            "scikit-learn>=1.6",
            "tensorboardX>=2.6",
        ],
        "tpu": ["jax[tpu]>=0.10"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
