"""SIGTERM and SIGINT, as a scheduler or a person sends them: finish what is in hand, save, and say so."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GOES_ON = "the same command goes on"
LATER = b"\nfinishing this chunk and saving; the signal once more stops at once\n"


class Stopped(KeyboardInterrupt):
    """A signal has ended the run, and the same command goes on; like KeyboardInterrupt no `Exception`."""


@contextlib.contextmanager
def stops_at_once() -> Iterator[None]:
    """Raise Stopped where a signal arrives: for what nothing of is lost, or what starts again from the checkpoint."""

    def handle(number, _):
        raise Stopped(f"stopped by {signal.Signals(number).name}; {GOES_ON} from the last checkpoint")

    with _handled(handle):
        yield


@contextlib.contextmanager
def finishes_first() -> Iterator[Callable[[], str]]:
    """Yield asked() -> the name of the signal that has arrived, "" before; a second one raises Stopped."""
    arrived: list[str] = []

    def handle(number, _):
        if arrived:
            raise Stopped(f"stopped by a second {signal.Signals(number).name}; what came after the last save is lost")
        arrived.append(signal.Signals(number).name)
        os.write(2, LATER)

    with _handled(handle):
        yield lambda: arrived[0] if arrived else ""


@contextlib.contextmanager
def _handled(handle: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
        yield
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
