"""What a run says while it runs: a live bar on a terminal that can move, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 10.0


class Progress(NamedTuple):
    """Functions of one display.

    update(phase, done, total, **values): `done` of `total` units of `phase` are done; values such as step, loss,
        accuracy, best (genotype), episodes_per_s are shown in the order given.
    note(text): one line that stays.
    close(): end the display; harmless twice.
    """

    update: Callable[..., None]
    note: Callable[[str], None]
    close: Callable[[], None]


def make_progress(
    phases: Mapping[str, float],
    quiet: bool = False,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Return the display of a run.

    Args:
        phases: the phases in order, each with its rough share of the time, in any unit; they make the time left.
        quiet: show nothing.
        stream: where to, standard error by default; a live bar where it is a terminal that can move, else a line every
            10 s.
        clock: seconds.
    """
    if quiet:
        return Progress(lambda *_, **__: None, lambda _: None, lambda: None)
    stream = sys.stderr if stream is None else stream
    console = Console(file=stream)
    moves = stream.isatty() and console.is_interactive
    show, note, close = _live_display(console) if moves else _line_display(stream, clock)
    estimate = _time_left(phases, clock)

    def update(phase: str, done: int, total: int, **values: Any) -> None:
        show(phase, done, total, values, estimate(phase, done / max(total, 1)))

    return Progress(update, note, close)


def _time_left(phases: Mapping[str, float], clock: Callable[[], float]) -> Callable[[str, float], float | None]:
    whole = sum(phases.values())
    names = list(phases)
    began = []  # clock and share of the run at the first update, which of a resumed run is not 0

    def estimate(phase: str, share: float) -> float | None:
        before = sum(phases[name] for name in names[: names.index(phase)])
        done, now = (before + share * phases[phase]) / whole, clock()
        if not began:
            began.append((now, done))
        start, first = began[0]
        return (now - start) * (1 - done) / (done - first) if done > first else None

    return estimate


def _describe(values: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return "  ".join(
        f"{name.replace('_per_s', '/s').replace('_', ' ')} {text(value)}" for name, value in values.items()
    )


def duration(seconds: float) -> str:
    """Return a time as people say it: 42 s, 3 min 05 s, 2 h 07 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"


def _line_display(stream: TextIO, clock: Callable[[], float]):
    last: dict[str, Any] = {"phase": None, "time": 0.0}

    def show(phase: str, done: int, total: int, values: Mapping[str, Any], left: float | None) -> None:
        if phase == last["phase"] and done < total and clock() - last["time"] < LINE_EVERY_S:
            return
        last.update(phase=phase, time=clock())
        note("  ".join(part for part in (f"{phase} {done}/{total}", _describe(values), _left(left)) if part))

    def note(text: str) -> None:
        print(text, file=stream, flush=True)

    return show, note, lambda: None


def _live_display(console: Console):
    live = Live(console=console, refresh_per_second=4, transient=True)
    live.start()

    def show(phase: str, done: int, total: int, values: Mapping[str, Any], left: float | None) -> None:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(phase, style="bold"), ProgressBar(max(total, 1), done, width=30), f"{done}/{total}", _left(left)
        )
        numbers = {name: value for name, value in values.items() if name != "best"}
        lines = [head, Text(_describe(numbers), overflow="ellipsis", no_wrap=True)]
        if "best" in values:
            lines.append(Text(f"best {values['best']}", style="cyan", overflow="fold"))
        live.update(Group(*lines))

    def note(text: str) -> None:
        live.console.print(Text(text))

    return show, note, live.stop
