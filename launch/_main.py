"""What every command shares: bad input is one line on standard error and exit status 2, not a traceback.

| status | what ended the command                                                                              |
|--------|-----------------------------------------------------------------------------------------------------|
| 0      | it is done                                                                                          |
| 1      | the machine or the numbers: disk, memory, compiler, not finite; the same command goes on            |
| 2      | what was typed, or a file that was given                                                            |
| 75     | SIGTERM or SIGINT, everything being saved (EX_TEMPFAIL of sysexits.h): start the same command again |
| 130    | SIGINT of a command that keeps no checkpoints                                                       |
"""

import sys
from collections.abc import Callable
from typing import NoReturn

import jax
from absl import app, flags, logging

from atnas_jax.job.compiled import divide_cpu, keep_compiled
from atnas_jax.job.config import unknown_setting
from atnas_jax.job.faults import DISK, Fault, device_fault, is_of_machine
from atnas_jax.run.preemption import Stopped

FAULT, BAD_INPUT, STOPPED, INTERRUPTED = 1, 2, 75, 130
LONGEST = 600  # characters of a line
_CPU_DEVICES = flags.DEFINE_integer("cpu_devices", 0, "Devices to divide the CPU into; 0: one a core.", lower_bound=0)
flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Parse the flags and call `main(argv)`; end the process with 0, or 2 after one line on what was wrong."""
    logging.set_verbosity(logging.WARNING)  # jax tells of every platform that it does not find
    keep_compiled()
    app.run(lambda argv: _call(main, argv), flags_parser=_parse)


def _call(main: Callable[[list[str]], None], argv: list[str]) -> None:
    if len(argv) > 1:
        _fail(f"unknown argument {argv[1]!r}; settings are given as --config.NAME=VALUE")
    divide_cpu(_CPU_DEVICES.value)
    try:
        main(argv)
    except Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, Fault, MemoryError, jax.errors.JaxRuntimeError) as error:
        if flags.FLAGS.debug:
            raise
        _fail(f"{_one_line(error)} (--debug shows where)", FAULT if is_of_machine(error) else BAD_INPUT)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except Exception as error:  # a config file is Python, and may raise anything
        if "--debug" in argv:
            raise
        _fail(next(filter(None, map(_unknown, argv)), "") or _one_line(error))


def _unknown(argument: str) -> str:
    name = argument.lstrip("-").split("=")[0]
    return unknown_setting(name.removeprefix("config.")) if name.startswith("config.") else ""


def _one_line(error: Exception) -> str:
    if isinstance(error, jax.errors.JaxRuntimeError):
        error = device_fault(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    if isinstance(error, OSError) and error.errno in DISK:  # of a file that was open already, so it has no name
        return f"{error.strerror.lower()}; mend that and type the same command again"
    text = " ".join(str(error).split())[:LONGEST] or type(error).__name__
    missing = "Configuration is not available because of an earlier failure to load: "
    return "no config could be loaded: " + text.removeprefix(missing) if text.startswith(missing) else text


def _fail(text: str, status: int = BAD_INPUT) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(status)
