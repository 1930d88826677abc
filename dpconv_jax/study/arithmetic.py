"""What a network computes, read in its jaxpr: exact, the same on every backend, and nothing is run.

A jaxpr here is that of a function of the network's weights, then of its inputs.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

MOVES = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "gather", "iota", "pad", "reshape", "rev",
    "slice", "split", "squeeze", "stop_gradient", "transpose", "dynamic_slice", "platform_index",
}  # fmt: skip


def flops(jaxpr: core.Jaxpr) -> int:
    """Arithmetic of a jaxpr, loops and calls included; of a branch the longer side.

    2 for each multiply-add of a matrix product or convolution (of pixels, not padding), 1 for each element of any other
    arithmetic, 0 for moves.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, shape = equation.primitive.name, _shape(equation.outvars[0])
        inner = [*_inner(equation)]
        if name == "conv_general_dilated":
            total += _convolution_flops(equation)
        elif name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            total += 2 * math.prod(shape) * math.prod(_shape(equation.invars[0])[axis] for axis in contracted)
        elif name == "cond":
            total += max(flops(branch) for branch in inner)
        elif inner:
            total += equation.params.get("length", 1) * sum(flops(called) for called in inner)
        elif name.startswith("reduce_"):
            total += math.prod(_shape(equation.invars[0]))
        elif name not in MOVES:
            total += math.prod(shape)
    return total


def _shape(variable: core.Var | core.Literal) -> tuple[int, ...]:
    array: Any = variable.aval
    return array.shape


def _inner(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The jaxprs that an equation calls."""
    for value in equation.params.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, core.Jaxpr):
                yield each


def _convolution_flops(equation: core.JaxprEqn) -> int:
    """Of an ungrouped convolution; products with padding, and with the gaps of a dilated input, are not counted."""
    inputs, kernel = map(_shape, equation.invars)
    options = equation.params
    numbers = options["dimension_numbers"]
    total = 2 * inputs[numbers.lhs_spec[0]] * kernel[numbers.rhs_spec[0]] * kernel[numbers.rhs_spec[1]]
    for axis, stride in enumerate(options["window_strides"]):
        size, taps = inputs[numbers.lhs_spec[2 + axis]], kernel[numbers.rhs_spec[2 + axis]]
        outputs = _shape(equation.outvars[0])[numbers.out_spec[2 + axis]]
        before, gap = options["padding"][axis][0], options["lhs_dilation"][axis]
        places = np.arange(outputs)[:, None] * stride + np.arange(taps) * options["rhs_dilation"][axis] - before
        total *= int(np.sum((places >= 0) & (places < size * gap) & (places % gap == 0)))
    return total


class Path(NamedTuple):
    """What lies behind a value: layers on the longest way from the inputs to it.

    A layer is a convolution or matrix product of something that depends on the inputs with learned weights. Those side
    by side, such as the parts of a concatenation or query, key and value, count as one.
    """

    convolutions: int = 0
    layers: int = 0  # convolutions, and the 1 x 1 projections of attention
    smallest: int | None = None  # least side of what a convolution on any way to it made
    learned: bool = False  # depends on the weights,
    seen: bool = False  # on the inputs


def longest_path(jaxpr: core.ClosedJaxpr, *, weights: int) -> Path:
    """Of the first output, where the first `weights` inputs of the jaxpr are learned weights."""
    behind = [Path(learned=True)] * weights + [Path(seen=True)] * (len(jaxpr.jaxpr.invars) - weights)
    return _paths(jaxpr.jaxpr, behind)[0]


def _paths(jaxpr: core.Jaxpr, behind: Sequence[Path]) -> list[Path]:
    known = dict(zip(jaxpr.invars, behind, strict=True))

    def look(variable: core.Var | core.Literal) -> Path:
        return Path() if isinstance(variable, core.Literal) else known.get(variable, Path())

    for equation in jaxpr.eqns:
        operands = [look(variable) for variable in equation.invars]
        inner = [*_inner(equation)]
        if inner:  # they take the last operands: what comes before chooses a branch
            outputs = [_paths(called, operands[len(operands) - len(called.invars) :]) for called in inner]
            known |= zip(equation.outvars, (_join(ways) for ways in zip(*outputs, strict=False)), strict=True)
            continue
        path = _join(operands)
        name = equation.primitive.name
        weighted = path.seen and any(operand.learned and not operand.seen for operand in operands)
        if weighted and name in ("conv_general_dilated", "dot_general"):
            path = path._replace(layers=path.layers + 1)
            if name == "conv_general_dilated":
                shape, numbers = _shape(equation.outvars[0]), equation.params["dimension_numbers"]
                sides = [shape[axis] for axis in numbers.out_spec[2:]]
                smallest = min(sides) if path.smallest is None else min(path.smallest, *sides)
                path = path._replace(convolutions=path.convolutions + 1, smallest=smallest)
        known |= dict.fromkeys(equation.outvars, path)
    return [look(variable) for variable in jaxpr.outvars]


def _join(paths: Sequence[Path]) -> Path:
    return Path(
        convolutions=max((path.convolutions for path in paths), default=0),
        layers=max((path.layers for path in paths), default=0),
        smallest=min((path.smallest for path in paths if path.smallest is not None), default=None),
        learned=any(path.learned for path in paths),
        seen=any(path.seen for path in paths),
    )
