"""A novel task from folders of images, and its outcome as files."""

import csv
import json
import os
from collections.abc import Sequence

from atnas_jax.data.labelled_folder import read_images, read_support
from atnas_jax.run.adapt import Adapted, adapt
from atnas_jax.run.meta_network import load_meta_network


def adapt_folder(
    workdir: str,
    support: str,
    query: str,
    out: str,
    *,
    seed: int = 0,
    generations: int | None = None,
    population: int | None = None,
) -> dict[str, object]:
    """Adapt to a folder of class folders, predict a folder of images, and write the outcome.

    Args:
        workdir: of a finished search, or its meta_network.npz.
        support: folder with one folder of images per class, or an npz.
        query: a flat folder of images, or class folders (then accuracy is told), or an npz.
        out: folder to write predictions.csv, genotype.txt and adaptation.json into; made where absent.
        seed, generations, population: as in `adapt`.

    Returns:
        What adaptation.json holds.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is written.
    """
    network = load_meta_network(workdir)
    size, channels = network.image_shape[0], network.image_shape[-1]
    images, labels, class_names = read_support(support, size, channels)
    queries, names, query_labels = read_images(query, size, channels, class_names)
    found = adapt(network, images, labels, queries, seed=seed, generations=generations, population=population)
    predicted = found.probabilities.argmax(1)
    summary = {
        "genotype": found.genotype,
        "params": found.params,
        "macs": found.macs,
        "classes": list(class_names),
        "support_images": len(images),
        "query_images": len(queries),
        "accuracy": None if query_labels is None else float((predicted == query_labels).mean()),
        "architecture_s": round(found.architecture_s, 3),
        "weights_s": round(found.weights_s, 3),
        "compile_s": round(found.compile_s, 3),
    }
    write_outcome(out, found, summary, names)
    return summary


def write_outcome(out: str, found: Adapted, summary: dict[str, object], names: Sequence[str]) -> None:
    """Write predictions.csv, a row an image of `names`, genotype.txt and adaptation.json into the folder `out`."""
    class_names = summary["classes"]
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "predictions.csv"), "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "predicted", *(f"p({name})" for name in class_names)])
        for name, label, row in zip(names, found.probabilities.argmax(1), found.probabilities, strict=True):
            rows.writerow([name, class_names[label], *(f"{p:.4f}" for p in row)])
    with open(os.path.join(out, "genotype.txt"), "w", encoding="utf-8") as file:
        file.write(f"{found.genotype}\n{found.genotype_json}\n")
    with open(os.path.join(out, "adaptation.json"), "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=2)
