"""Several seeds of a specialisation together: mean curves, intervals and differences, against hand-worked numbers."""

import copy

import numpy as np
import pytest

from atnas_jax.many_shot.over_seeds import at_time, crossing, mean_curve, mean_interval, over_seeds, paired_difference
from atnas_jax.many_shot.specialise import reached
from atnas_jax.many_shot.specialise_report import sentence, specialise_table, together_sentence
from atnas_jax.report.specialised import write_specialised


def test_curves_are_averaged_point_by_point_and_a_shorter_search_stands():
    short = {"evaluations": 2, "curve": [[2.0, 0.4], [3.0, 0.5], [4.0, 0.8], [5.0, 0.9]]}
    long = {"evaluations": 3, "curve": [[1.0, 0.2], [2.0, 0.6], [4.0, 0.8], [8.0, 0.6], [9.0, 1.0]]}
    curve, searched = mean_curve([short, long])
    assert searched == 3
    assert np.allclose(curve, [[1.5, 0.3], [2.5, 0.55], [3.5, 0.65], [6.0, 0.7], [7.0, 0.95]])
    assert mean_curve([{"evaluations": 0, "curve": [[1.0, 0.5]]}] * 2) == ([[1.0, 0.5]], 0)


def test_intervals_are_of_students_t():
    # t_{0.975,2} = 4.302653; sd 0.01, n 3
    found = mean_interval([0.97, 0.98, 0.99])
    assert found["mean"] == pytest.approx(0.98) and found["ci95"] == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    paired = paired_difference([0.97, 0.99, 0.98], [0.95, 0.98, 0.98], 1 / 3)
    assert paired["values"] == pytest.approx([0.02, 0.01, 0.0]) and paired["mean"] == pytest.approx(0.01)
    assert paired["ci95"] == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    assert paired["ci95_corrected"] == pytest.approx(4.302653 * 0.01 * (1 / 3 + 1 / 3) ** 0.5, rel=1e-6)


def test_the_interval_holds_the_mean_in_95_of_100_draws():
    draws = np.random.default_rng(0).normal(0.9, 0.02, (2000, 5))
    within = [abs(found["mean"] - 0.9) < found["ci95"] for found in map(mean_interval, draws.tolist())]
    assert 0.935 < np.mean(within) < 0.965  # with 1.96 in the place of t it would be 0.88


def test_a_crossing_and_one_that_stays():
    curve = [[1.0, 0.5], [2.0, 0.9], [3.0, 0.8], [4.0, 0.9], [5.0, 0.95]]
    assert crossing(curve, 0.9, 40.0) == {"seconds": 2.0, "share": 0.05, "stays_s": 4.0, "stays_share": 0.1}
    assert crossing(curve[:3], 0.9, 40.0) == {"seconds": 2.0, "share": 0.05, "stays_s": None, "stays_share": None}
    assert crossing(curve, 0.96, 40.0)["seconds"] is None
    assert crossing(curve, 0.1 + 0.8 + 1e-16, 40.0)["seconds"] == 2.0
    assert [at_time(curve, seconds) for seconds in (0.5, 2.0, 3.9, 9.0)] == [None, 0.9, 0.8, 0.95]


def _record(seed: int, adapted: list[float], scratch: list[float], tests: tuple[float, float]) -> dict:
    def row(begin, accuracies, test):
        curve = [[begin * share, accuracy] for share, accuracy in zip((0.5, 1.0, 1.2, 1.5), accuracies, strict=True)]
        return {
            **{"curve": curve, "evaluations": 2, "search_s": begin, "train_s": begin / 2, "params": 9, "macs": 9},
            **{"valid": accuracies[-1], "test": test, "genotype": "chain:d1/conv3-4"},
            "test_curve": [[begin * 1.2, test - 0.1], [begin * 1.5, test]],
        }

    rows = {"adapted": row(2.0, adapted, tests[0]), "scratch": row(40.0, scratch, tests[1])}
    return {
        **{"data": "x.npz", "meta_network": "m", "classes": ["a", "b"], "image_shape": [8, 8, 1], "seed": seed},
        **{"images": {"train": 60, "valid": 20, "test": 30}, "width": 1, "depth": 0, "rows": rows},
        **{"settings": {"random_architectures": 3}, "reached": reached(rows)},
    }


@pytest.fixture
def records() -> list[dict]:
    """Two seeds: in one `adapted` reaches what scratch ended with, in the other never, and the mean curve does."""
    return [
        _record(3, [0.5, 0.6, 0.95, 0.95], [0.4, 0.5, 0.8, 0.85], (0.9, 0.8)),
        _record(4, [0.5, 0.6, 0.75, 0.85], [0.4, 0.5, 0.8, 0.90], (0.8, 0.9)),
    ]


def test_the_mean_tells_beside_the_seeds(records):
    found = over_seeds(records)
    assert found["seeds"] == [3, 4] and found["reached"]["accuracy"] == pytest.approx(0.875)
    assert found["reached"]["ci95"] == pytest.approx(12.7062 * 0.05 / 2, rel=1e-4)  # sd / sqrt(2) = 0.025
    crossed = found["reached"]["rows"]
    assert crossed["adapted"] == pytest.approx({"seconds": 3.0, "share": 0.075, "stays_s": 3.0, "stays_share": 0.075})
    assert crossed["scratch"]["seconds"] == 60.0  # it ends on its own mean
    assert found["reached_test"]["accuracy"] == pytest.approx(0.85)
    assert found["reached_test"]["rows"]["adapted"]["share"] == pytest.approx(0.075)
    values = {one["of"]: one["values"] for one in found["differences"] if one["row"] == "adapted"}
    assert values["test"] == pytest.approx([0.1, -0.1])
    assert values["test_at_tenth"] == pytest.approx([0.1, -0.1])
    assert values["valid"] == pytest.approx([0.1, -0.05])
    assert values["valid_at_tenth"] == pytest.approx([0.1, -0.05])  # 4 s: the last point of adapted
    ratio = {one["of"]: one["ci95_corrected"] / one["ci95"] for one in found["differences"]}
    assert ratio["test"] == pytest.approx(2**0.5) and ratio["valid"] == pytest.approx((1 + 2 / 3) ** 0.5)
    assert over_seeds(records[:1]) is None


def test_what_comes_after_a_tenth_does_not_count(records):
    late = copy.deepcopy(records)
    for record in late:
        curve = record["rows"]["adapted"]["curve"]
        record["rows"]["adapted"]["curve"] = [*curve[:3], [4.1, 0.99]]
        record["rows"]["adapted"]["test_curve"] = [[2.4, 0.7], [4.1, 0.99]]
    values = {one["of"]: one["values"] for one in over_seeds(late)["differences"]}
    assert values["valid_at_tenth"] == pytest.approx([0.95 - 0.85, 0.75 - 0.9])
    assert values["test_at_tenth"] == pytest.approx([0.7 - 0.8, 0.7 - 0.9])
    late[0]["rows"]["adapted"]["test_curve"][0][0] = 4.05  # no network yet in that seed
    assert "test_at_tenth" not in {one["of"] for one in over_seeds(late)["differences"]}


def test_text_and_page_say_both(records, tmp_path):
    text, found = specialise_table(records), over_seeds(records)
    page = open(write_specialised(str(tmp_path), records)).read()
    alone, together = sentence(records, "adapted"), together_sentence(found, "adapted")
    tested = together_sentence(found, "adapted", "test")
    assert "in 1 of 2 seeds it reached" in alone and "7.5% of the 40.0 s" in together and "% on test" in tested
    assert all(words in text and words[1:] in page for words in (alone, together, tested))
    assert "+0.00 ± 127.06 (± 179.69)" in text and "+0.00 ± 127.06 (± 179.69)" in page
    assert text.count("seed 3") == text.count("seed 4") == 1 and "never" in text
    assert max(len(line) for line in text.split("\n") if not line.startswith("adapted from")) <= 105
    figures = [tmp_path / "figures" / f"specialise_mean{part}.png" for part in ("", "_test")]
    assert all(figure.stat().st_size > 10_000 for figure in figures)
    one = specialise_table(records[:1])
    assert "together" not in one and "together" not in open(write_specialised(str(tmp_path), records[:1])).read()
