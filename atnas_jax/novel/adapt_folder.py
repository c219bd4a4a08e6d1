"""A novel task from folders of images, and its outcome as files."""

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from atnas_jax.data.labelled_folder import read_images, read_support
from atnas_jax.job.command import FILE as COMMAND
from atnas_jax.job.command import keep_command
from atnas_jax.job.files import check_out, write_arrays
from atnas_jax.novel.adapt import Adapted, adapt
from atnas_jax.novel.meta_network import load_meta_network

SUMMARY, PREDICTIONS, QUERIES = "adaptation.json", "predictions.csv", "queries.npz"
CSV = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}  # file names as they are on the disk
KEPT = 200  # query images that are kept for the report

PREDICT = '''"""Classify images by this adaptation, rows as in predictions.csv: python predict.py FOLDER"""
import csv
import pathlib
import sys

import atnas_jax

folder = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)
network = atnas_jax.load_adapted(str(pathlib.Path(__file__).parent))
names, classes, probabilities = network.predict_folder(folder)
sys.stdout.reconfigure(errors="surrogateescape")  # of names that are no UTF-8
rows = csv.writer(sys.stdout)
rows.writerow(["image", "predicted", *(f"p({name})" for name in network.classes)])
rows.writerows([n, c, *(f"{p:.6f}" for p in row)] for n, c, row in zip(names, classes, probabilities, strict=True))
'''


def adapt_folder(network: str, support: str, query: str, out: str, *, seed: int = 0, **options: Any) -> dict[str, Any]:
    """Adapt to a folder of class folders, predict a folder of images, and write the outcome.

    Args:
        network: see `load_meta_network`.
        support: folder with one folder of images per class, or an npz.
        query: a flat folder of images, or class folders (then accuracy is told), or an npz.
        out: folder to write into, made where absent; see `write_outcome`.
        seed: of the search.
        options: generations, population, seconds, max_params, max_macs, max_latency_ms, pad; see `make_fit`.

    Returns:
        What adaptation.json holds.

    Raises:
        ValueError, OSError: one line, before anything is written.
    """
    loaded = load_meta_network(network)
    size, channels = loaded.image_shape[:2], loaded.image_shape[-1]
    images, labels, class_names = read_support(support, size, channels)
    queries, names, query_labels = read_images(query, size, channels, class_names)
    check_out(os.path.join(out, SUMMARY))
    found = adapt(loaded, images, labels, queries, seed=seed, estimate=True, **options)
    predicted = found.probabilities.argmax(1)
    summary = found.network.about | {
        "classes": list(class_names),
        "query_images": len(queries),
        "accuracy": None if query_labels is None else float((predicted == query_labels).mean()),
        "seed": seed,
        "weights_s": round(found.weights_s, 3),
        "compile_s": round(found.compile_s, 3),
    }
    write_outcome(out, found, summary, names)
    keep_queries(out, queries, query_labels)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(out, COMMAND))  # of an earlier adaptation into the same folder
    keep_command(out)
    return summary


def write_outcome(out: str, found: Adapted, summary: dict[str, Any], names: Sequence[str]) -> None:
    """Write the outcome of an adaptation into a folder.

    predictions.csv, a row an image of `names`; genotype.txt; weights.npz, all that `load_adapted` needs; predict.py,
    which classifies other images by it; adaptation.json, the summary.
    """
    class_names = summary["classes"]
    os.makedirs(out, exist_ok=True)
    network = found.network._replace(classes=np.asarray(class_names), about=summary)
    network.save(out)
    with open(os.path.join(out, PREDICTIONS), "w", **CSV) as file:
        rows = csv.writer(file)
        rows.writerow(["image", "predicted", *(f"p({name})" for name in class_names)])
        for name, label, row in zip(names, found.probabilities.argmax(1), found.probabilities, strict=True):
            rows.writerow([name, class_names[label], *(f"{p:.6f}" for p in row)])
    texts = {"genotype.txt": f"{found.genotype}\n{found.genotype_json}\n", "predict.py": PREDICT}
    texts[SUMMARY] = json.dumps(summary, indent=2)
    for name, text in texts.items():
        with open(os.path.join(out, name), "w", encoding="utf-8") as file:
            file.write(text)


def keep_queries(out: str, queries: np.ndarray, labels: np.ndarray | None) -> None:
    """Keep at most `KEPT` query images, at even distances in their order, for the report.

    Args:
        out: the folder of the outcome.
        queries: uint8 [n,H,W,C], as the network sees them.
        labels: int32 [n], or None where they are unknown.
    """
    rows = np.unique(np.linspace(0, len(queries) - 1, min(len(queries), KEPT)).round().astype(np.int32))
    arrays = {"rows": rows, "images": queries[rows]}
    # The labels of all: how often each class was right is told of all.
    write_arrays(os.path.join(out, QUERIES), arrays | ({} if labels is None else {"labels": labels}), compressed=True)
