"""How matrix products are rounded to 8 bits, and which way is cheapest for a given matrix. Numbers, no graphs.

A product x @ w becomes (q(x) @ q(w)) * scales, where w is rounded to int8 with one scale a column and x to uint8 in one
of three ways, from the cheapest to compute to the dearest:

    fixed       one scale and zero point for every token, from calibration
    smoothed    the same after dividing every channel by a factor that moves to the weight (SmoothQuant, Xiao 2022)
    per token   one scale a token, from its largest value

None lets a number cross from one token to another, so a text's vector does not depend on what it is batched with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_SMOOTHING = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Strengths that are tried: how much of the differences between channels moves from the input to the weight."""
_WEIGHT_CLIPPING = (1.0, 0.97, 0.94, 0.9, 0.86, 0.8)
"""Shares of a column's largest weight at which its range may end: clipping a few weights makes the steps finer."""
_TOLERANCE = 1.2
"""A cheaper scheme is taken if its error is at most this many times the smallest."""
_COLUMNS = 256
"""Columns of the weights by which schemes are compared: all columns together rarely tell another order."""
_BLOCK_ELEMENTS = 1 << 17
_SKEWED_ZERO = 32
"""Zero point of per-token schemes where values are bounded below, as GELU's are: the range above gets 7 of 8 parts."""


@dataclass(frozen=True)
class Samples:
    """Statistics of a product's input, from calibration.

    Attributes:
        tokens: [samples, K], tokens picked evenly from all that were seen.
        low: [K], smallest value of every channel over all tokens.
        high: [K], largest.
    """

    tokens: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Scheme:
    """How an input is rounded: q = round(x / smoothing / scale) + zero_point, limited to 0 .. 255.

    Attributes:
        smoothing: [K], or None for none.
        scale: of every token; None takes max(largest value of the token / reach, floor).
        zero_point: what 0 becomes.
        floor: the smallest scale of a token.
    """

    smoothing: Floats | None
    scale: float | None
    zero_point: int
    floor: float = 0.0

    @property
    def reach(self) -> int:
        """How many steps lie above the zero point."""
        return 255 - self.zero_point

    @property
    def is_symmetric(self) -> bool:
        """Whether a per-token scale must look at absolute values."""
        return self.zero_point == 128

    def round(self, x: Floats) -> Floats:
        """`x` [T, K] as the graph will see it, divided by the smoothing."""
        if self.smoothing is not None:
            x = x / self.smoothing
        # `np.round` takes halves to the even number, as QuantizeLinear does.
        scale = self.scale if self.scale is not None else self._token_scales(x)
        return np.asarray(
            (np.clip(np.round(x / scale) + self.zero_point, 0, 255) - self.zero_point) * scale, np.float32
        )

    def _token_scales(self, x: Floats) -> Floats:
        largest = np.abs(x).max(1, keepdims=True) if self.is_symmetric else x.max(1, keepdims=True)
        return np.asarray(np.maximum(largest / self.reach, self.floor), np.float32)


@dataclass(frozen=True)
class Int8Weight:
    """How a weight is rounded: q = round(w * smoothing / scales), limited to -127 .. 127.

    Attributes:
        scales: FP32 [N].
        correction: FP32 [N], what rounding takes from the product on average; belongs to the bias.
    """

    scales: Floats
    correction: Floats


def choose(
    samples: Samples, weights: Mapping[str, Floats], *, per_token: bool = True
) -> tuple[Scheme, dict[str, Int8Weight]]:
    """The cheapest scheme that is nearly as exact as the best, for products that share their input.

    Args:
        samples: of the shared input.
        weights: [K, N] each, by name.
        per_token: whether schemes with a scale a token may be taken.
    """
    columns = _spread_columns(list(weights.values()))
    expected = samples.tokens @ columns
    largest_out = np.max([_largest(weight, axis=1) for weight in weights.values()], axis=0)
    errors = []
    for scheme in _candidates(samples, largest_out, per_token=per_token):
        scales = _best_scales(columns, scheme)
        product = scheme.round(samples.tokens) @ (_round(_smoothed(columns, scheme), scales) * scales)
        errors.append((scheme, float(np.square(product - expected).mean())))
    limit = _TOLERANCE * min(error for _, error in errors)
    scheme = next(scheme for scheme, error in errors if error <= limit)
    return scheme, {name: _weight(samples, scheme, weight) for name, weight in weights.items()}


def to_int8(weight: Floats, scheme: Scheme, scales: Floats) -> NDArray[np.int8]:
    """The integers [K, N] of a weight, see `Int8Weight`."""
    integers = np.empty(weight.shape, np.int8)
    for rows in _blocks(weight):
        integers[rows] = _round(_smoothed(weight, scheme, rows), scales)
    return integers


def _candidates(samples: Samples, largest_out: Floats, *, per_token: bool) -> Iterator[Scheme]:
    """From the cheapest to compute to the dearest, for weights whose largest values by channel [K] are these."""
    yield _fixed(samples, None)
    largest_in = np.maximum(-samples.low, samples.high)
    for strength in _SMOOTHING:
        yield _fixed(samples, _smoothing(largest_in, largest_out, strength))
    low, high = float(samples.low.min()), float(samples.high.max())
    if not per_token:
        return
    # Then the lowest value fits into the eighth of the range below the skewed zero. The floor keeps it there in tokens
    # whose largest value is small; the symmetric floor only keeps a token of zeros from being divided by 0.
    if -low * 7 < high:
        yield Scheme(None, None, _SKEWED_ZERO, floor=max(-low, 1e-6) / _SKEWED_ZERO)
    else:
        yield Scheme(None, None, 128, floor=1e-8)


def _fixed(samples: Samples, smoothing: Floats | None) -> Scheme:
    low, high = samples.low, samples.high
    if smoothing is not None:
        low, high = low / smoothing, high / smoothing
    # The range includes 0, or its zero point would not lie within 0 .. 255.
    bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    scale = max(top - bottom, 1e-8) / 255
    return Scheme(smoothing, scale, round(-bottom / scale))


def _smoothing(largest_in: Floats, largest_out: Floats, strength: float) -> Floats:
    # The maxima keep channels that are always 0 from a factor of 0, by which the input would be divided.
    factors = np.maximum(largest_in, 1e-3) ** strength / np.maximum(largest_out, 1e-6) ** (1 - strength)
    # A factor common to all channels changes no rounding, so it is taken out: their geometric mean is 1.
    return np.asarray(factors / np.exp(np.log(factors).mean()), np.float32)


def _weight(samples: Samples, scheme: Scheme, weight: Floats) -> Int8Weight:
    scales = _best_scales(weight, scheme)
    # With the rounded input and weight, as the graph multiplies them: rounding either shifts the mean. Of the product
    # it is the product of the mean input.
    mean, rounded_mean = samples.tokens.mean(0), scheme.round(samples.tokens).mean(0)
    lost = np.zeros(weight.shape[1], np.float32)
    for rows in _blocks(weight):
        integers = _round(_smoothed(weight, scheme, rows), scales)
        lost += mean[rows] @ weight[rows] - (rounded_mean[rows] @ integers) * scales
    return Int8Weight(scales, lost)


def _best_scales(weight: Floats, scheme: Scheme) -> Floats:
    """The scale of every column that loses least, clipping the column's largest weights if that helps."""
    largest = np.max([_largest(_smoothed(weight, scheme, rows), axis=0) for rows in _blocks(weight)], axis=0)
    # A column of zeros must not be divided by 0: `tiny` times 1,000 is still a normal number after the division by 127.
    largest = np.maximum(largest, np.finfo(np.float32).tiny * 1e3)
    candidates = [np.asarray(largest * share / 127, np.float32) for share in _WEIGHT_CLIPPING]
    errors = np.zeros((len(candidates), weight.shape[1]), np.float32)
    for rows in _blocks(weight):
        block = _smoothed(weight, scheme, rows)
        for index, scales in enumerate(candidates):
            lost = _round(block, scales)
            lost *= scales
            lost -= block
            errors[index] += np.einsum("kn,kn->n", lost, lost)
    # The first of equal ones, which clips least.
    return np.asarray(np.choose(errors.argmin(0), candidates), np.float32)


def _round(weight: Floats, scales: Floats) -> Floats:
    """Whole numbers, in the type of the weight."""
    rounded: Floats = np.rint(weight / scales)
    return np.clip(rounded, -127, 127, out=rounded)


def _smoothed(weight: Floats, scheme: Scheme, rows: slice = slice(None)) -> Floats:
    """Rows of a weight as they are rounded."""
    return weight[rows] if scheme.smoothing is None else weight[rows] * scheme.smoothing[rows, None]


def _largest(numbers: Floats, axis: int) -> Floats:
    return np.asarray(np.maximum(numbers.max(axis), -numbers.min(axis)), np.float32)


def _spread_columns(weights: list[Floats]) -> Floats:
    """About as many columns as tell one scheme from another, from all of the weights."""
    step = max(1, sum(weight.shape[1] for weight in weights) // _COLUMNS)
    return np.concatenate([weight[:, ::step] for weight in weights], axis=1)


def _blocks(weight: Floats) -> Iterator[slice]:
    """All rows, as many at a time as stay in a core's cache together with what is computed of them."""
    size = max(1, _BLOCK_ELEMENTS // weight.shape[1])
    return (slice(begin, begin + size) for begin in range(0, len(weight), size))
