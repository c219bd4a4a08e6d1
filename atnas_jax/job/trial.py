"""Whether a search on a support set pays: what a trial on meta_valid found, and which tasks it speaks for."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Trial(NamedTuple):
    """What the search across tasks measured at its end, see `evidence/trials.py`."""

    shots: int  # images a class of the episodes
    episodes: int
    difference: float  # of the mean accuracy, -1..1: what each episode's search chose less the shared best
    ci95: float  # half-width of its 95 % interval over episodes

    @property
    def pays(self) -> bool:
        """Whether searching is better by more than its interval; a search that never leaves the shared best is not."""
        return self.difference > self.ci95

    def keeps(self, fewest: int) -> bool:
        """Return whether a task whose smallest class has `fewest` images keeps the shared best without a search.

        A search on moved copies of single images and one on folds of several are not the same, so the trial of one
        says nothing of the other.
        """
        return not self.pays and (self.shots >= 2) == (fewest >= 2)


def trial_to_dict(trial: Trial) -> dict[str, Any]:
    """Return what JSON holds of a trial: its fields, and whether it pays."""
    return trial._asdict() | {"pays": trial.pays}


def trial_from_dict(record: Mapping[str, Any]) -> Trial:
    """Return the trial that `trial_to_dict` was given."""
    return Trial(**{name: record[name] for name in Trial._fields})


def trial_text(record: Mapping[str, Any]) -> str:
    """Return in a sentence what `trial_to_dict` returned."""
    trial = trial_from_dict(record)
    tasks = f"{trial.episodes} tasks of meta_valid, {trial.shots} image{'s' * (trial.shots != 1)} a class"
    gap = f"{100 * trial.difference:+.2f} ± {100 * trial.ci95:.2f} points away from the shared best"
    return f"on {tasks}, a search on the support is {gap}, which {'pays' if trial.pays else 'does not pay'}"
