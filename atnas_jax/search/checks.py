"""Checks of the options that strategies share; each raises one line."""


def check_common(population: int, tries: int) -> None:
    """Raise ValueError unless there is a population and at least one try."""
    check_range("population", population, 1, None)
    check_range("tries", tries, 1, None)


def check_range(name: str, value: float, low: float, high: float | None) -> None:
    """Raise ValueError unless low <= value <= high (no upper bound if None)."""
    if not (low <= value and (high is None or value <= high)):
        raise ValueError(f"{name}={value} is out of range; allowed: {low} to {'any' if high is None else high}")
