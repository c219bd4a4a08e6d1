"""Write the report of a run, or compare runs: python -m launch.report --workdir=RUN[,RUN2...] [--out=FILE.html].

Writes report.html into the workdir, or comparison.html into the first of several, and figures/ beside it. The --out of
launch.adapt is a workdir too.
"""

from absl import flags

from atnas_jax.report.adaptation import holds_adaptation, write_adaptation_report
from atnas_jax.report.compare import write_comparison
from atnas_jax.report.page import write_report
from launch import _main

_WORKDIRS = flags.DEFINE_list("workdir", None, "Folder of a run, finished or not; several, by commas, are compared.")
flags.mark_flag_as_required("workdir")
_OUT = flags.DEFINE_string("out", "", "HTML file to write; default: in the (first) workdir.")


def main(_: list[str]) -> None:
    """Write the page and say where it is."""
    workdirs = [workdir for workdir in _WORKDIRS.value if workdir]
    if len(workdirs) == 1:
        write = write_adaptation_report if holds_adaptation(workdirs[0]) else write_report
        print(f"report   {write(workdirs[0], _OUT.value)}")
    else:
        print(f"report   {write_comparison(workdirs, _OUT.value)}")


if __name__ == "__main__":
    _main.run(main)
