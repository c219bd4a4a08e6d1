"""The report of one novel task: what was predicted, how far to trust it, and what was chosen for it."""

import os
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from atnas_jax.data.images import encode_png
from atnas_jax.job.files import write_whole
from atnas_jax.novel.adapted_network import AdaptedNetwork
from atnas_jax.novel.expected import sentence, wilson
from atnas_jax.report import architecture, settings
from atnas_jax.report.choice import choice_section
from atnas_jax.report.cost import parts_of
from atnas_jax.report.html import Section, cards, escape, page, paragraph, photo, table
from atnas_jax.report.page import FIGURES, FILE
from atnas_jax.report.read_adaptation import Adaptation, drawn_of, holds_adaptation, name_of, read_adaptation, record_of
from atnas_jax.report.style import saver, short

SUPPORT_SHOWN = 200  # support images on the page, shared out evenly to the classes
CLASSES_SHOWN = 100

__all__ = ["adaptation_page", "draw_architecture", "holds_adaptation", "write_adaptation_report"]


def write_adaptation_report(folder: str, out: str = "") -> str:
    """Write the report of an adaptation, and its figures into `figures/` beside it; returns its path.

    Args:
        folder: that launch.adapt wrote.
        out: the file to write, made whole or not at all; "" is report.html in the folder.

    Raises:
        FileNotFoundError: the folder holds no adaptation.
        ValueError: what it holds is damaged.
    """
    out = out or os.path.join(folder, FILE)
    write_whole(out, adaptation_page(read_adaptation(folder), saver(os.path.join(os.path.dirname(out), FIGURES))))
    return out


def adaptation_page(found: Adaptation, save: Callable[..., str]) -> str:
    """Return the page of an adaptation as HTML; `save` keeps its figures, see `style.saver`."""
    sections = [
        _outcome_section(found),
        _queries_section(found),
        _support_section(found),
        architecture.section(drawn_of(found.network), save),
        choice_section(found),
        settings.section(record_of(found.network, found.folder, found.command)),
    ]
    foot = (
        f"Written by python -m launch.report --workdir={found.folder}. Every prediction is in predictions.csv, the "
        f"figures are in {FIGURES}/ as PNG and SVG, and python predict.py FOLDER classifies other images."
    )
    return page(f"Adaptation {name_of(found.folder)}", _lead(found), sections, foot)


def draw_architecture(network: AdaptedNetwork) -> Figure:
    """Return the drawing of the parts of an adapted network, from the image down."""
    run = drawn_of(network)
    return architecture.stack_figure(architecture.lines_of(run, parts_of(run)))


def _lead(found: Adaptation) -> str:
    about = found.network.about
    words = (
        f"{len(found.classes)} classes, {about['support_images']} labelled images, {about['query_images']} images "
        "classified."
    )
    said = sentence(about["expected"])
    cost = f"{short(about['params'])} parameters, {short(about['macs'])} MACs"
    return (
        f"<p>{escape(words)}</p><p><b>{escape(said[0].upper() + said[1:])}.</b></p>"
        f"<p>Architecture, {cost}: <code>{escape(about['genotype'])}</code></p>"
    )


def _outcome_section(found: Adaptation) -> Section:
    """Return the accuracy to expect, the true one where labels are known, and what each class got."""
    ways, about, rows = len(found.classes), found.network.about, []
    expected, labels = about["expected"], found.labels
    if expected["accuracy"] is not None:
        rows.append(("expected, from the support alone", *_percent(expected["accuracy"], expected["ci95"])))
    if labels is not None:
        true = about["accuracy"]
        rows.append(("of the images classified", *_percent(true, wilson(true, len(labels)))))
    body = table(("accuracy", "%", "95 % interval"), rows) if rows else ""
    if expected["accuracy"] is not None:
        body += paragraph("What is expected holds for images of the same kind as the labelled ones, and no others.")
    head, columns = ["class", "labelled", "predicted"], [found.classes]
    columns += [np.bincount(of, minlength=ways) for of in (found.network.support_labels, found.predicted)]
    if labels is not None:
        head += ["true", "right"]
        right = labels[found.predicted == labels]
        columns += [np.bincount(of, minlength=ways) for of in (labels, right)]
    lines = list(zip(*columns, strict=True))[:CLASSES_SHOWN]
    body += table(head, lines) + _some(len(lines), ways, "classes")
    return Section("results", "Outcome", body)


def _percent(share: float, interval: list[float]) -> tuple[str, str]:
    low, high = interval
    return f"{100 * share:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"


def _some(shown: int, number: int, what: str) -> str:
    return paragraph(f"The first {shown} of {number} {what}.") if shown < number else ""


def _queries_section(found: Adaptation) -> Section:
    """Return the classified images with what they were taken for."""
    shown, number = len(found.rows), len(found.names)
    which = f"{shown} of {number} images, at even distances in the order of predictions.csv" if shown < number else (
        f"All {number} images"
    )  # fmt: skip
    text = f"{which}, as the network sees them, with the likeliest class and its probability; then the second."
    if found.labels is not None:
        text += " A mistake has a frame and says what it is."
    items = [_query(found, row, image) for row, image in zip(found.rows, found.images, strict=True)]
    return Section("queries", "Predictions", paragraph(text) + cards(items))


def _query(found: Adaptation, row: int, image: np.ndarray) -> tuple[str, str, list[str], bool]:
    """Return what `html.cards` takes of one image."""
    shares, name = found.probabilities[row], found.names[row]
    first, second = np.argsort(-shares, kind="stable")[:2]
    wrong = found.labels is not None and first != found.labels[row]
    lines = [f"is {found.classes[found.labels[row]]}"] if wrong else []
    lines += [f"{found.classes[second]} {100 * shares[second]:.0f} %", name]
    said = f"{found.classes[first]} {100 * shares[first]:.0f} %"
    return photo(encode_png(image), f"{name}: {said}"), said, lines, bool(wrong)


def _support_section(found: Adaptation) -> Section:
    """Return the labelled images, class by class."""
    support, ways, body = found.network, min(len(found.classes), CLASSES_SHOWN), ""
    most = max(1, SUPPORT_SHOWN // ways)
    for label, name in enumerate(found.classes[:ways]):
        images = support.support_images[support.support_labels == label]
        count = f"{len(images)} images" if len(images) <= most else f"the first {most} of {len(images)} images"
        pictures = "".join(photo(encode_png(image), f"support image of {name}") for image in images[:most])
        body += f'<h3>{escape(name)}: {count}</h3><div class="strip">{pictures}</div>'
    lead = paragraph("The labelled images, as the network sees them: all that it was told of this task.")
    return Section("support", "Labelled images", lead + body + _some(ways, len(found.classes), "classes"))
