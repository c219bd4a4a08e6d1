"""What several seeds of a specialisation say together: mean curves, means and paired differences with intervals.

One seed's validation set has a few hundred images, and its standard error is as large as what is compared: whether one
curve crosses one number is then a toss. Means over seeds are known better, and their intervals say how well.

| what              | how                                                                                            |
|-------------------|------------------------------------------------------------------------------------------------|
| mean curve        | seconds and accuracy averaged point by point: candidate i of the search, validation j of the   |
|                   | training. Where a seed's search had fewer candidates, it stands at its last one.               |
| interval of means | t_{0.975, n-1} sd / sqrt(n) over n seeds                                                       |
| corrected         | t_{0.975, n-1} sd sqrt(1/n + n_scored/n_train): seeds split the same images anew, so their     |
|                   | results are not independent (Nadeau & Bengio 2003, "Inference for the generalization error")   |

Valid chose, so it is too good, the more so the more and the more different the candidates were. Test, scored off the
clock while a chosen network trains, is not. The first crossing of a mean curve still takes the best of many points:
`stays` is from when on it is never again below, and `at_tenth` looks at one moment, fixed before: a tenth of the search
time of scratch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

TENTH = 0.1  # of the search time of scratch
TIE = 1e-9  # below which means of accuracies are equal


def over_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what the records of several seeds say together, or None for one seed.

    Args:
        records: of `specialise_task`, one a seed, all of the same data and rows.

    Returns:
        {"seeds"; "rows": {name: {"curve": mean curve, "evaluations": its points that are of the search, "search_s",
        "train_s", "params": means, "valid", "test": see `mean_interval`, "test_curve": mean curve of the training}}},
        and where `scratch` is among the rows "reached": {"accuracy" with which scratch ended, its "ci95", "rows":
        {name: see `crossing`}}; "reached_test": the same of test; "differences": of every other row less scratch, see
        `paired_difference`, each with "row", "minus" and "of": a key of SCORES, without what a seed does not know.
    """
    if len(records) < 2:
        return None
    names = list(records[0]["rows"])
    found = {
        "seeds": [record["seed"] for record in records],
        "rows": {name: _mean_row([record["rows"][name] for record in records]) for name in names},
    }
    if "scratch" in names:
        found["reached"] = _reached(found["rows"], "valid", "curve")
        found["reached_test"] = _reached(found["rows"], "test", "test_curve")
        others = [name for name in names if name != "scratch"]
        pairs = [_difference(records, name, of) for name in others for of in SCORES]
        found["differences"] = [pair for pair in pairs if pair]
    return found


def mean_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return {"mean", "ci95", "values"}: the mean over n seeds and t_{0.975, n-1} sd / sqrt(n), sd with n - 1.

    Args:
        values: float [n], n >= 2.
    """
    n = len(values)
    half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return {"mean": float(np.mean(values)), "ci95": float(half), "values": list(values)}


def paired_difference(values: Sequence[float], others: Sequence[float], ratio: float) -> dict[str, Any]:
    """Return {"mean", "ci95", "values", "ci95_corrected"} of d_i = a_i - b_i, see the head of this file.

    Args:
        values, others: float [n], of the same n >= 2 seeds in the same order.
        ratio: images that are scored for each that trained.
    """
    found = mean_interval(np.subtract(values, others).tolist())
    return found | {"ci95_corrected": found["ci95"] * math.sqrt(1 + len(values) * ratio)}


def mean_curve(rows: Sequence[Mapping[str, Any]]) -> tuple[list[list[float]], int]:
    """Return the mean curve of a row over seeds, [[seconds, accuracy]], and how many of its points are of the search.

    Args:
        rows: one a seed: "curve" [[seconds, accuracy]], "evaluations" its points of the search, first.
    """
    searched = max(row["evaluations"] for row in rows)
    curves = []
    for row in rows:
        search, training = np.split(np.asarray(row["curve"], np.float64).reshape(-1, 2), [row["evaluations"]])
        stands = np.repeat(search[-1:], searched - len(search), 0)
        curves.append(np.concatenate([search, stands, training]))
    return np.mean(curves, 0).tolist(), searched


def crossing(curve: Sequence[Sequence[float]], aim: float, whole: float) -> dict[str, float | None]:
    """Return when a curve first reaches `aim`, and from when on it is never below; None: it does not.

    Args:
        curve: [[seconds, accuracy]].
        aim: accuracy.
        whole: seconds that shares are of.

    Returns:
        {"seconds", "share", "stays_s", "stays_share"}.
    """
    enough = [accuracy >= aim - TIE for _, accuracy in curve]
    first = next((at for (at, _), good in zip(curve, enough) if good), None)
    stays = next((at for number, (at, _) in enumerate(curve) if all(enough[number:])), None)
    shares = [None if at is None else at / whole for at in (first, stays)]
    return {"seconds": first, "share": shares[0], "stays_s": stays, "stays_share": shares[1]}


def at_time(curve: Sequence[Sequence[float]], seconds: float) -> float | None:
    """Return the last accuracy of a curve, [[seconds, accuracy]], that was known after so many seconds, or None."""
    return next((accuracy for at, accuracy in reversed(curve) if at <= seconds), None)


def _reached(rows: Mapping[str, Any], part: str, curve: str) -> dict[str, Any]:
    end, whole = rows["scratch"][part], rows["scratch"]["search_s"]
    crossed = {name: crossing(row[curve], end["mean"], whole) for name, row in rows.items()}
    return {"accuracy": end["mean"], "ci95": end["ci95"], "rows": crossed}


def _mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    curve, searched = mean_curve(rows)
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("search_s", "train_s", "params")}
    ends = {name: mean_interval([row[name] for row in rows]) for name in ("valid", "test")}
    tests = np.mean([row["test_curve"] for row in rows], 0).tolist()
    return {"curve": curve, "evaluations": searched, "test_curve": tests, **means, **ends}


Score = Callable[[Mapping[str, Any], str], float | None]  # (rows of a seed, name) -> accuracy, None: not known yet


def _end(part: str) -> Score:
    return lambda rows, name: rows[name][part]


def _at_tenth(curve: str) -> Score:
    return lambda rows, name: at_time(rows[name][curve], TENTH * rows["scratch"]["search_s"])


SCORES = {  # what is compared -> of a row, and of scratch, which has ended
    "test": (_end("test"), _end("test")),
    "test_at_tenth": (_at_tenth("test_curve"), _end("test")),
    "valid": (_end("valid"), _end("valid")),
    "valid_at_tenth": (_at_tenth("curve"), _end("valid")),
}


def _difference(records: Sequence[Mapping[str, Any]], name: str, of: str) -> dict[str, Any] | None:
    mine, its = SCORES[of]
    images, part = records[0]["images"], of.removesuffix("_at_tenth")
    values = [mine(record["rows"], name) for record in records]
    others = [its(record["rows"], "scratch") for record in records]
    if None in values:
        return None
    found = paired_difference(values, others, images[part] / images["train"])
    return {"row": name, "minus": "scratch", "of": of} | found
