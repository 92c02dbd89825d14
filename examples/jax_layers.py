"""The layers of a module of PyTorch as functions of JAX arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from torch import nn

Arrays = dict[str, jax.Array]


class Layers:
    """A module of PyTorch that computes with JAX arrays in the places of its tensors.

    Its layers, their settings and the names of its arrays are the module's, which thereby is the
    only definition; the module's own tensors are not read.

    Args:
        module: What is computed, of the kinds in `KINDS`.
        arrays: Parameters and buffers by the names of `module.state_dict()`.
        training: Whether batches are normalised by their own statistics.

    Attributes:
        updates: What running statistics have become in training, by name.
    """

    def __init__(
        self,
        module: nn.Module,
        arrays: Arrays,
        *,
        training: bool,
        prefix: str = "",
        updates: Arrays | None = None,
    ) -> None:
        self.module, self.arrays, self.training, self.prefix = module, arrays, training, prefix
        self.updates: Arrays = {} if updates is None else updates

    def __getattr__(self, name: str) -> Any:
        """Return a layer, an array or a setting by its name in the module."""
        if self.prefix + name in self.arrays:
            return self.arrays[self.prefix + name]
        found = getattr(self.module, name)
        if not isinstance(found, nn.Module):
            return found
        prefix = f"{self.prefix}{name}."
        return Layers(
            found, self.arrays, training=self.training, prefix=prefix, updates=self.updates
        )

    def __iter__(self) -> Iterator[Layers]:
        """Iterate over the layers of a list or a sequence."""
        return (getattr(self, name) for name, _ in self.module.named_children())

    def __call__(self, *inputs: Any, **options: Any) -> jax.Array:
        """Compute."""
        return KINDS[type(self.module)](self, *inputs, **options)


def _sequence(layers: Layers, x: jax.Array) -> jax.Array:
    for layer in layers:
        x = layer(x)
    return x


def _linear(layer: Layers, x: jax.Array) -> jax.Array:
    return x @ layer.weight.T + layer.bias


def _convolution(layer: Layers, x: jax.Array) -> jax.Array:
    padding = [(side, side) for side in layer.padding]
    return jax.lax.conv_general_dilated(x, layer.weight, layer.stride, padding)


def _normalised_batch(layer: Layers, x: jax.Array) -> jax.Array:
    mean, variance = layer.running_mean, layer.running_var
    if layer.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        count = x.size // x.shape[1]
        # The running variance is the unbiased one, and what normalises is not.
        new = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
        for name, value in new.items():
            old, share = getattr(layer, name), layer.momentum
            layer.updates[layer.prefix + name] = (1 - share) * old + share * value
        layer.updates[f"{layer.prefix}num_batches_tracked"] = layer.num_batches_tracked + 1
    scale = layer.weight * jax.lax.rsqrt(variance + layer.eps)
    shift = layer.bias - mean * scale
    return x * scale[:, None, None] + shift[:, None, None]


def _normalised_layer(layer: Layers, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + layer.eps) * layer.weight + layer.bias


def _attention(
    layer: Layers, x: jax.Array, seen: jax.Array, hidden: jax.Array | None = None
) -> jax.Array:
    """Return what queries `[B, Q, width]` see of `[B, K, width]`, but where `hidden[q, k]`."""
    weights, biases = jnp.split(layer.in_proj_weight, 3), jnp.split(layer.in_proj_bias, 3)
    query, key, value = (
        (y @ weight.T + bias).reshape(*y.shape[:2], layer.num_heads, -1)
        for y, weight, bias in zip((x, seen, seen), weights, biases, strict=True)
    )
    scores = jnp.einsum("bqhc,bkhc->bhqk", query / layer.head_dim**0.5, key)
    if hidden is not None:
        scores = jnp.where(hidden, -jnp.inf, scores)
    found = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores, -1), value)
    return _linear(layer.out_proj, found.reshape(x.shape))


def _decoder(
    layer: Layers, x: jax.Array, memory: jax.Array, tgt_mask: jax.Array | None = None
) -> jax.Array:
    """Return what the layer of a decoder that normalises first makes of queries."""
    normal = layer.norm1(x)
    x = x + layer.self_attn(normal, normal, tgt_mask)
    x = x + layer.multihead_attn(layer.norm2(x), memory)
    return x + layer.linear2(jax.nn.relu(layer.linear1(layer.norm3(x))))


KINDS: dict[type[nn.Module], Callable[..., jax.Array]] = {
    nn.Sequential: _sequence,
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _normalised_batch,
    nn.LayerNorm: _normalised_layer,
    nn.Embedding: lambda layer, labels: layer.weight[labels],
    nn.ReLU: lambda _, x: jax.nn.relu(x),
    nn.MultiheadAttention: _attention,
    nn.TransformerDecoderLayer: _decoder,
}
