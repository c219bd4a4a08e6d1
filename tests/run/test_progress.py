"""Progress: what is said, how often, and how much time is left."""

import io

import pytest

from atnas_jax.job.budget import passes_of
from atnas_jax.job.progress import duration, make_progress


class Clock:
    """A clock that is set by hand, s."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_lines_come_at_once_then_every_ten_seconds_and_at_the_end_of_a_phase():
    stream, clock = io.StringIO(), Clock()
    progress = make_progress({"meta_train": 1, "meta_test": 1}, stream=stream, clock=clock)
    for done in range(0, 101, 4):  # 25 updates, 1 s each
        progress.update("meta_train", done, 100, loss=0.123456, best="conv3")
        clock.now += 1
    progress.update("meta_test", 1, 2)
    progress.note("done")
    progress.close()
    lines = stream.getvalue().splitlines()
    counts = [line.split("  ")[0] for line in lines]
    assert counts == [
        "meta_train 0/100", "meta_train 40/100", "meta_train 80/100", "meta_train 100/100", "meta_test 1/2", "done",
    ]  # fmt: skip
    assert "loss 0.1235  best conv3" in lines[1]


def test_the_time_left_counts_all_phases_by_their_weights():
    stream, clock = io.StringIO(), Clock()
    progress = make_progress({"meta_train": 3, "meta_test": 1}, stream=stream, clock=clock)
    progress.update("meta_train", 0, 10)
    clock.now += 30
    progress.update("meta_train", 10, 10)  # 3 of 4 parts took 30 s
    clock.now += 5
    progress.update("meta_test", 1, 2)  # 7 of 8 parts took 35 s
    first, second, third = stream.getvalue().splitlines()
    assert "left" not in first
    assert second.endswith("10 s left")
    assert third.endswith("5 s left")


def test_a_resumed_run_does_not_count_what_was_done_before_it():
    stream, clock = io.StringIO(), Clock()
    progress = make_progress({"meta_train": 1}, stream=stream, clock=clock)
    progress.update("meta_train", 50, 100)
    clock.now += 20
    progress.update("meta_train", 75, 100)
    assert stream.getvalue().splitlines()[-1].endswith("20 s left")


def test_a_terminal_that_cannot_move_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    make_progress({"meta_train": 1}, stream=stream).update("meta_train", 1, 2, loss=1.0)
    assert stream.getvalue().startswith("meta_train 1/2  loss 1")


def test_quiet_says_nothing():
    stream = io.StringIO()
    progress = make_progress({"meta_train": 1}, quiet=True, stream=stream)
    progress.update("meta_train", 1, 2, loss=1.0)
    progress.note("x")
    progress.close()
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_live_bar_and_notes_that_stay(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    stream = Terminal()
    progress = make_progress({"meta_train": 1}, stream=stream)
    progress.update("meta_train", 1, 2, step=1, best="[conv3]")  # brackets are no markup
    progress.note("resumed at step [1]")
    progress.close()
    progress.close()
    assert "resumed at step [1]" in stream.getvalue()
    assert "[conv3]" in stream.getvalue()
    assert "1/2" in stream.getvalue()


def test_the_share_of_the_meta_test_is_what_it_computes(tiny):
    """By hand, of tiny.py: an episode of training is 3 ways x (3 x 2 queries + 9 shots) passes, of test 3 x (2 + 3)."""
    rows = {"meta_test.rows": ("adapted", "best", "random_architecture", "random_search")}
    assert passes_of(tiny(rows | {"meta_test.conv4": False})) == {
        "meta_train": 8 * 2 * 45,
        "meta_test": 15 * (6 * (2 * (3 + 2) + 8) + 6 * 8),  # two modes, two random genotypes, two choices of 4 x 2
    }
    assert passes_of(tiny({"meta_test.rows": ("best",), "adapt.trials": 10})) == {
        "meta_train": 8 * 2 * 45,
        "control": 8 * 2 * 45,
        "meta_test": 15 * (6 * 2 + 10 * (8 + 2)),
    }
