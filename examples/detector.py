"""A small detector of real images, and the set losses that it may be trained with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

import hungarian_core as hc

GRID = 8  # queries along the side of an image
QUERIES = GRID * GRID
WIDTH = 64
DECODERS = 2
FREQUENCIES = 8  # of the sines that stand for a place


class Recipe(NamedTuple):
    """A loss, and what it asks of the detector.

    Attributes:
        title: What it is called in tables.
        make: Makes the loss of the number of classes and the factor of their published weight,
            in the loss and, where there is one of its own, in the matching cost.
        sigmoid: Whether classes are told apart by sigmoids, without a logit for "no object".
        by_position: Whether object i is given to query i, and nothing is matched.
    """

    title: str
    make: Callable[[int, float], Any]
    sigmoid: bool = False
    by_position: bool = False


def _preset(name: str, cost: float, **changes: Any) -> Callable[[int, float], Any]:
    """Return how to make the loss of a preset whose matching cost has this weight of classes."""
    return lambda classes, factor: hc.DetrLoss.preset(
        name, classes, class_weight=factor, class_cost=cost * factor, **changes
    )


def _aligned(**changes: Any) -> Callable[[int, float], Any]:
    return lambda classes, factor: hc.AlignedDetrLoss(classes, class_weight=factor, **changes)


RECIPES = {
    "position": Recipe("by position", _preset("detr", 1.0), by_position=True),
    "detr": Recipe("DETR", _preset("detr", 1.0)),
    "focal": Recipe("focal", _preset("dino", 2.0), sigmoid=True),
    "varifocal": Recipe("varifocal", _preset("rt_detr", 2.0), sigmoid=True),
    "ia_bce": Recipe("IA-BCE", _preset("rf_detr", 2.0), sigmoid=True),
    # The settings of DEIM; matched by the focal cost, as there.
    "mal": Recipe(
        "MAL", _preset("dino", 2.0, class_loss="mal", gamma=1.5, cost_gamma=2.0), sigmoid=True
    ),
    "aligned": Recipe("aligned", _aligned()),
    "aligned_01": Recipe("aligned, no object 0.1", _aligned(no_object_weight=0.1)),
    "aligned_01_boxes": Recipe(
        "aligned, no object 0.1, per box", _aligned(no_object_weight=0.1, normalize="boxes")
    ),
}


class Detector(nn.Module):
    """Convolutions, and a transformer's decoder whose queries begin on a grid of the image."""

    def __init__(self, classes: int, *, sigmoid: bool) -> None:
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
        self.classes = nn.Linear(2 * WIDTH, classes + (not sigmoid))
        if sigmoid:  # the prior of RetinaNet, which papers of sigmoid losses start from
            nn.init.constant_(self.classes.bias, -math.log(99))
        nn.init.constant_(self.size.bias, -1.5)  # objects are smaller than half the image
        self.register_buffer("places", _grid(GRID, GRID))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `[B, QUERIES, classes]` and boxes `[B, QUERIES, 4]` of images."""
        fine = self.fine(images)
        coarse = self.coarse(fine)
        memory = coarse.flatten(2).transpose(1, 2) + self.place(_sines(_grid(*coarse.shape[2:])))
        at = (2 * self.places - 1).expand(len(images), 1, QUERIES, 2)
        seen = nn.functional.grid_sample(fine, at, align_corners=False)[:, :, 0]
        x = seen.transpose(1, 2) + self.place(_sines(self.places))
        for decoder in self.decoders:
            x = decoder(x, memory)
        x = self.head(x)
        # The centre of a box is near the place of its query.
        centre = self.places + 0.3 * torch.tanh(self.shift(x))
        return self.classes(x), torch.cat([centre, torch.sigmoid(self.size(x))], dim=-1)


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
    """Return what stands for places `[n, 2]`: `[n, 4 * FREQUENCIES]`, from slow to fast waves."""
    angles = places[:, :, None] * math.pi * 1.5 ** torch.arange(FREQUENCIES)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
