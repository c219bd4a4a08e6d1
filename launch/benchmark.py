"""Benchmark this machine: python -m launch.benchmark --suite=all --peer=torch --out=bench.json.

Every work is timed in turns with the machine's peak and, with --peer=torch, the same work in PyTorch.
"""

import jax
from absl import flags

from atnas_jax.bench import report, suites
from atnas_jax.bench.peak import default_device
from atnas_jax.job.files import check_out
from atnas_jax.job.results import versions
from launch import _main

_SUITE = flags.DEFINE_enum("suite", "all", ["all", *suites.SUITES], "Which works.")
_PEER = flags.DEFINE_enum("peer", "none", suites.PEERS, "What to compare with; torch must be installed.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "How often each work is timed.", lower_bound=1)
_SMALL = flags.DEFINE_bool("small", False, "Shrink every work to a second: whether it runs, not how fast.")
_OUT = flags.DEFINE_string("out", "", "Write the rows to this JSON file.")
_PLOT = flags.DEFINE_string("plot", "", "Draw the curves of the suite growth into this PNG file.")


def main(_: list[str]) -> None:
    """Time the works, show each as it is done, print the table and write it."""
    jax.config.update("jax_enable_compilation_cache", False)  # compile_s is of compiling, not of reading
    for path in filter(None, (_OUT.value, _PLOT.value)):
        check_out(path)
    names = list(suites.SUITES) if _SUITE.value == "all" else [_SUITE.value]
    rows, bounds = [], suites.peaks(_SMALL.value)
    for name in names:
        for work in suites.SUITES[name](_PEER.value, _SMALL.value):
            rows.append({"suite": name} | suites.measure(work, bounds, _ROUNDS.value))
            print(report.table(rows[-1:]).splitlines()[1], flush=True)
    print("\n" + report.table(rows))
    if _OUT.value:
        record = {"device": default_device(), "versions": versions(), "rows": rows}
        report.write(_OUT.value, record)
    if _PLOT.value:
        report.draw(_PLOT.value, rows)


if __name__ == "__main__":
    _main.run(main)
