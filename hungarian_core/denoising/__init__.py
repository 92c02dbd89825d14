"""Queries that are to become the true objects again from which they were made with noise.

A decoder learns faster if, beside its own queries, it gets labels and boxes of true objects that
are a little wrong, and is to put them right: it is known which object is whose, so nothing has to
be matched. There are several groups of such queries, in each of which every object is there once
(DN-DETR), or once near its place and once farther off, where it is to become nothing (DINO).

- `contrastive_queries`: near and far ones, as DINO, RT-DETR and D-FINE have them;
- `denoising_queries`: near ones only, as DN-DETR has them;
- `inverse_sigmoid`: boxes as reference points that a decoder adds to before its sigmoid;
- `Denoised`: what the model made of them, for the ``denoising=`` of a loss.

Noise is a function of the seed, the image, the object, and the group: the same in every framework
and on every device, eagerly and in programs, however many objects images are padded to and
however many groups there are. Take another seed in each step, and on each worker.
"""

from hungarian_core.denoising.noise import (
    contrastive_queries,
    denoising_queries,
    inverse_sigmoid,
)
from hungarian_core.denoising.queries import Denoised, DenoisingQueries

__all__ = [
    "Denoised",
    "DenoisingQueries",
    "contrastive_queries",
    "denoising_queries",
    "inverse_sigmoid",
]
__dir__ = __all__.copy
