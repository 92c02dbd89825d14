"""The learned Hungarian network on JAX arrays: the functions of `hungarian_core.hnet`.

Parameters are a dict of arrays, so a pytree: ``jax.grad(lambda params: association_loss(distance,
association, params))(params)`` is one too, and an optimiser of optax takes both.
"""

from __future__ import annotations

from jax import Array

from hungarian_core import bind
from hungarian_core import hnet as _core
from hungarian_jax._backend import backend

associate = bind(_core.associate, backend)
association_loss = bind(_core.association_loss, backend)
load = bind(_core.load, backend)
load_pretrained = bind(_core.load_pretrained, backend)
save = _core.save


def init_params(*, width: int = 16, layers: int = 10, seed: int = 0) -> dict[str, Array]:
    """Return random parameters to start training from, as `hungarian_core.hnet.init_params`.

    Examples:
        >>> import hungarian_jax.hnet
        >>> params = hungarian_jax.hnet.init_params(width=4)
        >>> params["gate.bias"].shape
        (4,)
    """
    params = _core.init_params(width=width, layers=layers, seed=seed)
    return {name: backend.asarray(x) for name, x in params.items()}


__all__ = ["associate", "association_loss", "init_params", "load", "load_pretrained", "save"]
__dir__ = __all__.copy
