"""The cost of a network inside the one number that a search moves by: factors of a fitness, terms of a loss."""

from collections.abc import Callable

import jax.numpy as jnp

from atnas_jax.types import Array

Loss = Callable[[Array, Array], Array]  # policy float32 [E,O], loss float32 [] -> the loss with cost float32 []


def mnas_soft(cost: Array, target: float, weight: float = -0.07) -> Array:
    """Return (cost / T)^w on both sides of the target (MnasNet, Tan et al. 2019, equation 2 with alpha = beta = w)."""
    return (cost / target) ** weight


def mnas_hard(cost: Array, target: float, weight: float = -1.0) -> Array:
    """Return 1 up to the target and (cost / T)^w beyond it (MnasNet, Tan et al. 2019, equation 2 with alpha = 0)."""
    return jnp.where(cost <= target, 1.0, (cost / target) ** weight)


def add_linear(loss: Array, cost: Array, target: float, weight: float = 0.1) -> Array:
    """Return loss + w (E - T) / T (ProxylessNAS, Cai et al. 2019, equation 6, scaled by T as in its code).

    The pull does not end at the target: where the loss is flat, the cost falls to the cheapest network.
    """
    return loss + weight * (cost - target) / target


def add_hinge(loss: Array, cost: Array, target: float, weight: float = 0.1) -> Array:
    """Return loss + w max(E - T, 0) / T: as `add_linear`, but without a pull below the target."""
    return loss + weight * jnp.maximum(cost - target, 0.0) / target


def mul_log(loss: Array, cost: Array, target: float, weight: float = 0.3) -> Array:
    """Return 0.2 loss (log E / log T)^w (ProxylessNAS's code; FBNet, Wu et al. 2019, equation 2, has w = 0.6, no T).

    The power is of the logarithm. log(E^w) = w log E would only scale it, whatever w is.
    """
    return 0.2 * loss * (jnp.log(jnp.maximum(cost, 1.0 + 1e-6)) / jnp.log(target)) ** weight


FACTORS = {"mnas_soft": mnas_soft, "mnas_hard": mnas_hard}
TERMS = {"add_linear": add_linear, "add_hinge": add_hinge, "mul_log": mul_log}


def factor(name: str, target: float, weight: float | None = None) -> Callable[[Array], Array]:
    """Return cost float32 [P] -> what a fitness [P] is multiplied by.

    Args:
        name: of `FACTORS`.
        target: T, in the unit of the cost.
        weight: w; None is the published one.
    """
    _check_target(name, target, 0.0)
    options = {} if weight is None else {"weight": weight}
    return lambda cost: FACTORS[name](cost, target, **options)


def loss_with_cost(name: str, expected: Callable[[Array], Array], target: float, weight: float | None = None) -> Loss:
    """Return (policy, loss) -> loss, with the expected cost of the policy in it.

    Args:
        name: of `TERMS`.
        expected: policy float32 [E,O] -> E, float32 [], see `space/expected.py`.
        target: T, in the unit of the cost; above 1 for "mul_log".
        weight: w; None is the published one.

    Raises:
        ValueError: the target is out of range.
    """
    _check_target(name, target, 1.0 if name == "mul_log" else 0.0)
    options = {} if weight is None else {"weight": weight}
    return lambda policy, loss: TERMS[name](loss, expected(policy), target, **options)


def _check_target(name: str, target: float, low: float) -> None:
    if not target > low:
        raise ValueError(f"target {target} of {name!r} must be above {low:g}, in the unit of the cost")
