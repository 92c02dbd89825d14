"""A small detector of real images, and the set losses that it may be trained with."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    def __call__(
        self, logits: torch.Tensor, boxes: torch.Tensor, targets: hc.Targets
    ) -> SimpleNamespace:
        """Return the sum of both losses as `total`."""
        given = zip((self.one, self.many), logits.chunk(2, 1), boxes.chunk(2, 1), strict=True)
        return SimpleNamespace(total=sum(loss(x, y, targets).total for loss, x, y in given))


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
        self.register_buffer("places", _grid(GRID, GRID))
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
        """Return logits `[B, groups * QUERIES, classes]` and boxes `[B, groups * QUERIES, 4]`.

        With queries for denoising, their logits and boxes follow.
        """
        fine = self.fine(images)
        coarse = self.coarse(fine)
        memory = coarse.flatten(2).transpose(1, 2) + self.place(_sines(_grid(*coarse.shape[2:])))
        x, places, mask, made = self._begin(fine, self.places), self.places, None, 0
        if hasattr(self, "group"):  # to the decoder each is an image, as none sees another
            x = (x[:, None] + self.group.weight[:groups, None]).flatten(0, 1)
            memory = memory.repeat_interleave(groups, 0)
        if noised is not None:
            made, (centres, sides) = noised.boxes.shape[1], noised.boxes.split(2, -1)
            own = self._begin(fine, centres) + self.label(noised.labels) + self.extent(sides)
            x, mask = torch.cat([own, x], 1), ~noised.attention_mask(QUERIES)
            places = torch.cat([centres, places.expand(len(images), QUERIES, 2)], 1)[:, None]
        for decoder in self.decoders:
            x = decoder(x, memory, tgt_mask=mask)
        x = self.head(x).unflatten(0, (len(images), groups))
        # The centre of a box is near the place of its query.
        centre = places + 0.3 * torch.tanh(self.shift(x))
        size = self.size(x)
        if noised is not None:  # and a side near that which came
            others = sides.new_zeros(len(images), QUERIES, 2)
            size = size + torch.cat([torch.logit(sides, 0.01), others], 1)[:, None]
        boxes = torch.cat([centre, torch.sigmoid(size)], dim=-1).flatten(1, 2)
        logits = self.classes(x).flatten(1, 2)
        if noised is None:
            return logits, boxes
        return logits[:, made:], boxes[:, made:], logits[:, :made], boxes[:, :made]

    def _begin(self, fine: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return how queries at places `[Q, 2]` or `[B, Q, 2]` begin: what is there, and where."""
        at = (2 * places[..., None, :, :] - 1).expand(len(fine), 1, -1, 2)
        seen = nn.functional.grid_sample(fine, at, align_corners=False)[:, :, 0]
        return seen.transpose(1, 2) + self.place(_sines(places))


def _halved(channels: int, width: int) -> nn.Module:
    """Return layers that halve the sides of a feature map."""
    convolution = nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


def _grid(height: int, width: int) -> torch.Tensor:
    """Return the middles `[height * width, 2]`, x and y, of the cells of an image."""
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([x, y], dim=-1).reshape(height * width, 2)


def _sines(places: torch.Tensor) -> torch.Tensor:
    """Return waves, slow to fast, for places `[..., 2]`: `[..., 4 * FREQUENCIES]`."""
    angles = places[..., None] * math.pi * 1.5 ** torch.arange(FREQUENCIES)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
