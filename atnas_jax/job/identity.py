"""What a function is made of, as a digest that is the same in another process.

| of              | what counts                                                                    |
|-----------------|--------------------------------------------------------------------------------|
| function        | where it is written, its bytecode, defaults and the values that it closes over |
| partial, method | the function, with the values bound to it                                      |
| jit, custom_vjp | the functions that it wraps, not its options                                   |
| dataclass       | type and fields; of a data set, its fingerprint                                |
| container, array| type, lengths and all values                                                   |
| class, module   | its name                                                                       |

What a function calls by a global name does not count, nor what else is written in its source: see `kept.py`.
"""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from atnas_jax.data.table import DataSet

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype, type(Ellipsis))


def identity(value: Any) -> str | None:
    """Return the digest of a function or value, None where something in it cannot be told."""
    try:
        return _digest(value, {})
    except Exception:  # a kind not known here, an array that is gone, a depth without end: whoever asks does without
        return None


def _digest(value: Any, met: dict[int, tuple[str, Any]]) -> str:
    # met: id -> digest and the value itself, lest it go and another take its id.
    if isinstance(value, _PLAIN):
        return f"{type(value).__name__} {value!r}"
    if id(value) not in met:
        met[id(value)] = f"cycle {len(met)}", value
        told = hashlib.sha256()
        for part in _parts(value):
            told.update((_digest(part, met) + "\n").encode())
        met[id(value)] = told.hexdigest(), value
    return met[id(value)][0]


def _parts(value: Any) -> list[Any]:
    """Return the values that make a value, in a fixed order."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    for types_, parts in _KINDS:
        if isinstance(value, types_):
            return [kind, *parts(value)]
    if dataclasses.is_dataclass(value):
        return [kind, *_of_dataclass(value)]
    if hasattr(value, "__wrapped__"):  # of jax.jit, functools.cache
        return [kind, value.__wrapped__]
    raise TypeError(kind)


def _of_function(value: types.FunctionType) -> list[Any]:
    cells = [_content(cell) for cell in value.__closure__ or ()]
    return [value.__module__, value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return "empty cell"


def _of_dataclass(value: Any) -> list[Any]:
    # The parent of a Flax module is where it was made, which is no part of it.
    return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "parent"]


def _of_array(value: Any) -> list[Any]:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return [str(jax.random.key_impl(value)), jax.random.key_data(value)]
    array = np.asarray(value)
    return [array.shape, str(array.dtype), hashlib.sha256(np.ascontiguousarray(array)).hexdigest()]


_KINDS: tuple[tuple[Any, Callable[[Any], list[Any]]], ...] = (
    (types.FunctionType, _of_function),
    (types.CodeType, lambda value: [value.co_firstlineno, value.co_code, value.co_names, value.co_consts]),
    (types.MethodType, lambda value: [value.__func__, value.__self__]),
    (functools.partial, lambda value: [value.func, value.args, value.keywords]),
    (types.BuiltinFunctionType, lambda value: [value.__module__, value.__qualname__, value.__self__]),
    (type, lambda value: [value.__module__, value.__qualname__]),
    (types.ModuleType, lambda value: [value.__name__]),
    (jax.custom_vjp, lambda value: [value.fun, value.fwd, value.bwd]),
    (jax.custom_jvp, lambda value: [value.fun, value.jvp]),
    (DataSet, lambda value: [value.fingerprint]),
    (Mesh, lambda value: [value.axis_names, value.devices.shape, [str(device) for device in value.devices.flat]]),
    (ConfigDict, lambda value: [value.to_dict()]),
    (Mapping, lambda value: [[*pair] for pair in value.items()]),
    ((tuple, list), lambda value: [len(value), *value]),
    ((np.ndarray, jax.Array), _of_array),
    ((set, frozenset), lambda value: sorted(_digest(one, {}) for one in value)),
)
