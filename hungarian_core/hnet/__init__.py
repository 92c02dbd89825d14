"""The learned Hungarian network: from distances to associations, differentiable, without a solver.

`associate` is its forward pass, `association_loss` what trains it; `data` draws problems to learn
from and `metrics` measures. Parameters are a mapping of arrays, in files that every framework
reads: `load_pretrained`, `load`, `save`, `init_params`.

Reference:
    Adavanne, Politis and Virtanen, Differentiable Tracking-Based Training of Deep Learning Sound
    Source Localizers, WASPAA 2021, is where such a network comes from. This one has another
    architecture: it does not depend on the order of rows and columns, or on their number.
"""

from hungarian_core.hnet import data, metrics
from hungarian_core.hnet.files import load, load_pretrained, save
from hungarian_core.hnet.network import Params, associate, association_loss
from hungarian_core.hnet.parameters import init_params

__all__ = [
    "Params",
    "associate",
    "association_loss",
    "data",
    "init_params",
    "load",
    "load_pretrained",
    "metrics",
    "save",
]
__dir__ = __all__.copy
