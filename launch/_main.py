"""What every command shares: bad input is one line on standard error and exit status 2, not a traceback."""

import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from atnas_jax.run.compiled import divide_cpu, keep_compiled
from atnas_jax.run.config import unknown_setting

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
    except (ValueError, OSError) as error:
        if flags.FLAGS.debug:
            raise
        _fail(f"{_one_line(error)} (--debug shows where)")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except (flags.Error, KeyError, AttributeError, ValueError, TypeError, OSError) as error:
        if "--debug" in argv:
            raise
        _fail(next(filter(None, map(_unknown, argv)), "") or _one_line(error))


def _unknown(argument: str) -> str:
    name = argument.lstrip("-").split("=")[0]
    return unknown_setting(name.removeprefix("config.")) if name.startswith("config.") else ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    missing = "Configuration is not available because of an earlier failure to load: "
    return "no config could be loaded: " + text.removeprefix(missing) if text.startswith(missing) else text


def _fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)
