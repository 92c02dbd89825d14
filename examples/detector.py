"""A small detector of real images, and the set losses that it may be trained with.

Both are written for PyTorch and JAX: `jax_trainer.py` gives `detect` the layers of `Detector` as
functions of JAX arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

import hungarian_core as hc

GRID = 8  # queries along the side of an image
QUERIES = GRID * GRID
WIDTH = 64
DECODERS = 2
FREQUENCIES = 8  # of the sines that stand for a place
GROUPS = 3  # of queries, for the loss of Group DETR
COPIES = 3  # of each object, for the second group of H-DETR's: more than half of 64 queries at most


class Recipe(NamedTuple):
    """A loss, and what it asks of the detector.

    Attributes:
        title: What it is called in tables.
        make: Makes the loss of the number of classes and the factor of their published weight,
            in the loss and, where there is one of its own, in the matching cost.
        sigmoid: Whether classes are told apart by sigmoids, without a logit for "no object".
        by_position: Whether object i is given to query i, and nothing is matched.
        groups: How many groups of queries are trained, of which the first is the detector's.
        denoising: How many groups of queries made from true objects are trained beside them.
        one: Makes the loss of the first group alone, where there are several.
    """

    title: str
    make: Callable[[int, float], Any]
    sigmoid: bool = False
    by_position: bool = False
    groups: int = 1
    denoising: int = 0
    one: Callable[[int, float], Any] | None = None


def _preset(name: str, cost: float, **changes: Any) -> Callable[[int, float], Any]:
    """Return how to make the loss of a preset whose matching cost has this weight of classes."""
    return lambda classes, factor: hc.DetrLoss.preset(
        name, classes, class_weight=factor, class_cost=cost * factor, **changes
    )


def _aligned(**changes: Any) -> Callable[[int, float], Any]:
    return lambda classes, factor: hc.AlignedDetrLoss(classes, class_weight=factor, **changes)


class Hybrid:
    """The loss of H-DETR: queries are matched one to one, and a second group of them to copies.

    The second serves training alone, where more queries learn from an object.
    """

    def __init__(self, classes: int, factor: float) -> None:
        self.one, self.many = (
            _preset("dino", 2.0, **changes)(classes, factor) for changes in ({}, {"repeat": COPIES})
        )

    def __call__(self, logits: Any, boxes: Any, targets: hc.Targets) -> SimpleNamespace:
        """Return the sum of both losses as `total`."""
        one, many = (
            loss(logits[:, part], boxes[:, part], targets).total
            for loss, part in ((self.one, slice(QUERIES)), (self.many, slice(QUERIES, None)))
        )
        return SimpleNamespace(total=one + many)


RECIPES = {
    "position": Recipe("by position", _preset("detr", 1.0), by_position=True),
    "detr": Recipe("DETR", _preset("detr", 1.0)),
    "detr_nll": Recipe("DETR, class cost -log p", _preset("detr", 1.0, class_cost_form="nll")),
    "focal": Recipe("focal", _preset("dino", 2.0), sigmoid=True),
    "varifocal": Recipe("varifocal", _preset("rt_detr", 2.0), sigmoid=True),
    "ia_bce": Recipe("IA-BCE", _preset("rf_detr", 2.0), sigmoid=True),
    # The settings of DEIM; matched by the focal cost, as there.
    "mal": Recipe(
        "MAL", _preset("dino", 2.0, class_loss="mal", gamma=1.5, cost_gamma=2.0), sigmoid=True
    ),
    "groups": Recipe(
        f"focal, {GROUPS} groups",
        _preset("dino", 2.0, groups=GROUPS),
        sigmoid=True,
        groups=GROUPS,
        one=_preset("dino", 2.0),
    ),
    "hybrid": Recipe("focal, hybrid", Hybrid, sigmoid=True, groups=2, one=_preset("dino", 2.0)),
    "denoising": Recipe("focal, denoising", _preset("dino", 2.0), sigmoid=True, denoising=3),
    "aligned": Recipe("aligned", _aligned()),
    "aligned_01": Recipe("aligned, no object 0.1", _aligned(no_object_weight=0.1)),
    "aligned_01_boxes": Recipe(
        "aligned, no object 0.1, per box", _aligned(no_object_weight=0.1, normalize="boxes")
    ),
}


class Detector(nn.Module):
    """Convolutions, and a transformer's decoder whose queries begin on a grid of the image.

    What only some recipes need has its parameters last, so that the others begin alike.
    """

    def __init__(self, classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.fine = nn.Sequential(_halved(3, 16), _halved(16, 32), _halved(32, WIDTH))
        self.coarse = _halved(WIDTH, WIDTH)
        self.place = nn.Linear(4 * FREQUENCIES, WIDTH)
        self.decoders = nn.ModuleList(
            nn.TransformerDecoderLayer(
                WIDTH, 4, 2 * WIDTH, dropout=0, batch_first=True, norm_first=True
            )
            for _ in range(DECODERS)
        )
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU())
        self.shift, self.size = nn.Linear(2 * WIDTH, 2), nn.Linear(2 * WIDTH, 2)
        self.classes = nn.Linear(2 * WIDTH, classes + (not recipe.sigmoid))
        if recipe.sigmoid:  # the prior of RetinaNet, which papers of sigmoid losses start from
            nn.init.constant_(self.classes.bias, -math.log(99))
        nn.init.constant_(self.size.bias, -1.5)  # objects are smaller than half the image
        self.register_buffer("places", _grid(torch, GRID, GRID, torch.get_default_dtype()))
        if recipe.groups > 1:
            self.group = nn.Embedding(recipe.groups, WIDTH)
        if recipe.denoising:
            self.label, self.extent = nn.Embedding(classes + 1, WIDTH), nn.Linear(2, WIDTH)

    def forward(
        self,
        images: torch.Tensor,
        groups: int = 1,
        noised: hc.denoising.DenoisingQueries | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Return what `detect` does."""
        return detect(self, TORCH, images, groups, noised)


def _halved(channels: int, width: int) -> nn.Module:
    """Return layers that halve the sides of a feature map."""
    convolution = nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class Operations(NamedTuple):
    """What two frameworks call differently.

    Attributes:
        xp: A namespace with what they call alike: `torch` or `jax.numpy`.
        sigmoid: Of an array.
        logit: Its inverse, of numbers that are first brought into `[eps, 1 - eps]`: `(x, eps)`.
        sample: `(maps, places)`, bilinear samples `[B, Q, C]` of maps `[B, C, height, width]` at
            places `[B, Q, 2]` or `[Q, 2]`, x and y relative to the image.
    """

    xp: Any
    sigmoid: Callable[[Any], Any]
    logit: Callable[[Any, float], Any]
    sample: Callable[[Any, Any], Any]


def detect(
    layers: Any,
    operations: Operations,
    images: Any,
    groups: int = 1,
    noised: hc.denoising.DenoisingQueries | None = None,
) -> tuple[Any, ...]:
    """Return logits `[B, groups * QUERIES, classes]` and boxes `[B, groups * QUERIES, 4]`.

    With queries for denoising, their logits and boxes follow.

    Args:
        layers: Those of `Detector`, as attributes.
        operations: Of the framework.
        images: `[B, 3, height, width]`.
        groups: How many groups of queries look at them.
        noised: Queries for denoising.
    """
    xp, count = operations.xp, len(images)
    fine = layers.fine(images)
    coarse = layers.coarse(fine)

    def placed(places: Any) -> Any:
        return layers.place(_sines(xp, places))

    def begun(places: Any) -> Any:  # how queries begin: with what is there, and where
        return operations.sample(fine, places) + placed(places)

    cells = _grid(xp, *coarse.shape[2:], dtype=coarse.dtype)
    memory = coarse.reshape(*coarse.shape[:2], -1).swapaxes(1, 2) + placed(cells)
    x, places, mask, made = begun(layers.places), layers.places, None, 0
    if hasattr(layers, "group"):  # to the decoder each is an image, as none sees another
        x = (x[:, None] + layers.group.weight[:groups, None]).reshape(-1, QUERIES, WIDTH)
        each = (count, groups, *memory.shape[1:])
        memory = xp.broadcast_to(memory[:, None], each).reshape(-1, *memory.shape[1:])
    if noised is not None:
        made, centres, sides = noised.boxes.shape[1], noised.boxes[..., :2], noised.boxes[..., 2:]
        own = begun(centres) + layers.label(noised.labels) + layers.extent(sides)
        x, mask = xp.concat([own, x], axis=1), ~noised.attention_mask(QUERIES)
        places = xp.broadcast_to(places, (count, QUERIES, 2))
        places = xp.concat([centres, places], axis=1)[:, None]
    for decoder in layers.decoders:
        x = decoder(x, memory, tgt_mask=mask)
    x = layers.head(x).reshape(count, groups, -1, 2 * WIDTH)
    # The centre of a box is near the place of its query.
    centre = places + 0.3 * xp.tanh(layers.shift(x))
    size = layers.size(x)
    if noised is not None:  # and a side near that which came
        others = xp.zeros((count, QUERIES, 2), dtype=sides.dtype)
        size = size + xp.concat([operations.logit(sides, 0.01), others], axis=1)[:, None]
    boxes = xp.concat([centre, operations.sigmoid(size)], axis=-1).reshape(count, -1, 4)
    logits = layers.classes(x)
    logits = logits.reshape(count, -1, logits.shape[-1])
    if noised is None:
        return logits, boxes
    return logits[:, made:], boxes[:, made:], logits[:, :made], boxes[:, :made]


def _grid(xp: Any, height: int, width: int, dtype: Any) -> Any:
    """Return the middles `[height * width, 2]`, x and y, of the cells of an image."""
    y, x = xp.meshgrid(
        (xp.arange(height, dtype=dtype) + 0.5) / height,
        (xp.arange(width, dtype=dtype) + 0.5) / width,
        indexing="ij",
    )
    return xp.stack([x, y], axis=-1).reshape(height * width, 2)


def _sines(xp: Any, places: Any) -> Any:
    """Return waves, slow to fast, for places `[..., 2]`: `[..., 4 * FREQUENCIES]`."""
    angles = places[..., None] * math.pi * 1.5 ** xp.arange(FREQUENCIES, dtype=places.dtype)
    waves = xp.concat([xp.sin(angles), xp.cos(angles)], axis=-1)
    return waves.reshape(*places.shape[:-1], -1)


def _sampled(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Sample as `Operations` has it."""
    at = (2 * places[..., None, :, :] - 1).expand(len(maps), 1, -1, 2)
    return nn.functional.grid_sample(maps, at, align_corners=False)[:, :, 0].transpose(1, 2)


TORCH = Operations(torch, torch.sigmoid, torch.logit, _sampled)


def total(
    xp: Any,
    criterion: Any,
    outputs: Sequence[Any],
    targets: hc.Targets,
    recipe: Recipe,
    noised: hc.denoising.DenoisingQueries | None,
) -> Any:
    """Return the loss of what the detector says, in the framework of the namespace `xp`."""
    logits, boxes, *made = outputs
    options: dict[str, Any] = {}
    if recipe.by_position:  # object i, while there are some, is that of query i
        at = xp.arange(QUERIES)
        options["assignment"] = xp.where(at < targets.mask.sum(-1)[:, None], at, -1)
    if noised is not None:
        denoised = dict(zip(("logits", "boxes"), made, strict=True))
        options["denoising"] = hc.denoising.Denoised(noised, denoised, noised.mask)
    return criterion(logits, boxes, targets, **options).total
