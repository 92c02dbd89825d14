"""Functions with a gradient of their own in TensorFlow: in forward mode too, and once only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager.forwardprop_util import pack_tangents


def custom_vjp(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> Callable[..., tf.Tensor]:
    """Return a function as `hungarian_core.Backend.custom_vjp` says.

    In forward mode TensorFlow differentiates the backward pass by what comes from above. That is
    right where `backward` has the attribute `linear`: it multiplies by a slope. Elsewhere it is
    NaN, since the derivative of a matching, or of iterations, would be 0 or another number.
    """
    linear = getattr(backward, "linear", False)

    @tf.custom_gradient
    def function(*xs: tf.Tensor) -> Any:
        out, residuals = forward(*xs)

        def pull(g: tf.Tensor) -> list[tf.Tensor | None]:
            at = xs if linear else (g, *xs)
            # Of what comes out: what goes in may reach it by no way that TensorFlow differentiates.
            slopes = backward(residuals, g)
            return [s if s is None else s + _once(s, *at) for s in slopes]

        return out, pull

    def call(*xs: tf.Tensor) -> tf.Tensor:
        if not tf.executing_eagerly() and pack_tangents(list(xs)).tangents:
            # A `tf.autodiff.ForwardAccumulator` of this graph sees the identity that stands for a
            # custom gradient, of which it gets 0; of a function it asks the gradient.
            return tf.function(function)(*xs)
        return function(*xs)

    return call


def _once(g: tf.Tensor, *xs: tf.Tensor) -> tf.Tensor:
    """Return 0, with the gradient NaN by all `xs`: such a derivative would be incomplete.

    It cannot be an error. TensorFlow derives more than is asked for, where a tape is persistent.
    """

    @tf.custom_gradient
    def zero(*xs: tf.Tensor) -> Any:
        nan = float("nan")

        def pull(upstream: tf.Tensor) -> list[tf.Tensor | None]:
            return [
                tf.fill(tf.shape(x), tf.constant(nan, x.dtype)) if x.dtype.is_floating else None
                for x in xs
            ]

        return tf.zeros((), g.dtype), pull

    return zero(*xs)
