"""How the architecture of a novel task was chosen: what was asked, what it took, and against what it was held."""

import numpy as np

from atnas_jax.job.trial import trial_text
from atnas_jax.novel.novel import LIMITS
from atnas_jax.report.html import Section, escape, paragraph, table
from atnas_jax.report.read_adaptation import Adaptation

UNITS = {"max_params": "parameters", "max_macs": "MACs", "max_latency_ms": "ms"}


def choice_section(found: Adaptation) -> Section:
    """Return budget, limits, seconds, and the comparison with the shared best architecture."""
    about, config = found.network.about, found.network.config
    adapt = config.adapt
    asked = f"{adapt.seconds:g} s" if adapt.seconds else f"{adapt.generations} generations"
    rows = [
        *([] if about.get("kept_by_trial") else [("asked for", f"{asked} of {adapt.population} architectures")]),
        *((f"at most ({name})", f"{config.search[name]:,} {UNITS[name]}") for name in LIMITS if config.search[name]),
        ("held", f"{about['generations']} generations, {about['evaluations']} evaluations"),
        ("choosing the architecture", f"{about['architecture_s']:.2f} s"),
        ("weights and predictions", f"{about['weights_s']:.2f} s"),
        ("compiling, once for such a task", f"{about['compile_s']:.1f} s"),
        ("seed", about["seed"]),
    ]
    said = (verdict(found),) if about.get("kept_by_trial") else (how_scored(found), verdict(found))
    body = "".join(paragraph(text) for text in said)
    if about["found"] != about["genotype"]:
        body += f"<p>Found, and not taken: <code>{escape(about['found'])}</code></p>"
    return Section("choice", "How it was chosen", body + table(("", ""), rows, text=(1,)))


def how_scored(found: Adaptation) -> str:
    """Return what the candidates were scored by."""
    adapt, fewest = found.network.config.adapt, _fewest(found)
    if adapt.score not in ("loss", "mix"):
        by = f"by {adapt.score} on the labelled images, before any adaptation"
    elif fewest >= 2:
        by = f"on parts of the labelled images that were held out ({min(adapt.folds, fewest)} folds)"
    else:
        by = f"on slightly moved copies of the labelled images, {adapt.copies} a class, as a class has only one image"
    return f"Candidates were scored {by}. No classified image had a say."


def _fewest(found: Adaptation) -> int:
    return int(np.bincount(found.network.support_labels).min())


def verdict(found: Adaptation) -> str:
    """Return whether what the search found was taken, and why."""
    about, margin = found.network.about, found.network.config.adapt.margin
    gain, taken = about["found_is_better_by"], about["found"] == about["genotype"]
    if tried := about.get("kept_by_trial"):
        return (
            "The shared best architecture of the meta-network was kept, and nothing was searched for: "
            f"{trial_text(tried)}. Given to this command, --generations, --population, --seconds or a "
            "limit searches all the same."
        )
    if gain is None and not taken:
        return "The shared best architecture of the meta-network was kept: what the search found has no finite loss."
    if gain is None:
        return "What the search found was taken; it was not held against the shared best architecture."
    if taken and gain["nats"] == 0 and gain["standard_error"] == 0:
        return "The search ended where it began: at the shared best architecture of the meta-network."
    by = f"{gain['nats']:+.3f} ± {gain['standard_error']:.3f} nats (± one standard error)"
    by += " on the images that chose it" if _fewest(found) >= 2 else ""  # folds; moved copies are made anew
    if taken:
        return f"What the search found is better than the shared best architecture by {by}, and was taken."
    return (
        f"The shared best architecture of the meta-network was kept: what the search found is better by {by}, and it "
        f"takes more than {margin:g} standard errors."
    )
