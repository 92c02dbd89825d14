"""Published criteria that are made of other terms than `hungarian_core.DetrLoss` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hungarian_core.losses.dual import DualLoss, DualLosses, yolo_dual
from hungarian_core.losses.moments import MomentLoss, moment_detr, saliency_loss
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.losses.union import UnionLoss, union_of_layers
from hungarian_core.terms.alignment import Alignment
from hungarian_core.terms.boxes import Boxes
from hungarian_core.terms.boxes_3d import Boxes3D
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.edges import EdgeDistributions
from hungarian_core.terms.polylines import Polylines
from hungarian_core.terms.rotated_boxes import RotatedBoxes
from hungarian_core.terms.tokens import Tokens

__all__ = [
    "DualLoss",
    "DualLosses",
    "MomentLoss",
    "UnionLoss",
    "d_fine",
    "deimv2",
    "detr3d",
    "grounding_dino",
    "map_tr",
    "mdetr",
    "mm_grounding_dino",
    "moment_detr",
    "obb",
    "saliency_loss",
    "union_of_layers",
    "yolo_dual",
]
__dir__ = __all__.copy


def d_fine(
    num_classes: int,
    *,
    union: bool = True,
    bins: int = 32,
    up: float = 0.5,
    reg_scale: float = 4.0,
    **options: Any,
) -> UnionLoss | SetLoss:
    """Return the criterion of D-FINE.

    Outputs have an axis of layers: ``"logits"`` `(L, B, Q, num_classes)` and ``"boxes"`` `(L, B, Q,
    4)` in cxcywh, first of the encoder's proposals and of the boxes before refinement, then of the
    decoder; ``"edges"`` `(D, B, Q, 4, bins + 1)` and ``"references"`` `(B, Q, 4)` of the D decoder
    layers, see `hungarian_core.terms.EdgeDistributions`. Targets are ``"labels"`` and ``"boxes"``.

    Each layer is matched by focal, L1 and GIoU with the weights 2, 5 and 2. Classes lose the
    varifocal loss by the layer's own matching, boxes and edges L1, GIoU, FGL and DDF by the union
    of the layers' matchings, see `UnionLoss`; the weights are 1, 5, 2, 0.15 and 1.5. Queries for
    denoising are given to a call as ``denoising=``; their DDF has the authors' ``"balance"``, the
    numbers of the model's own queries that have an object in the union, and that have none. In
    transformers they are those of the queries for denoising: a call of their own, with their
    matching as `assignment`.

    Transformers' port has no union, no FGL of the last layer and no boxes before refinement; it
    limits boxes to 0 to 1 first. But for these, ``union=False`` is equal to it.

    Args:
        num_classes: The number of classes.
        union: Whether boxes and edges take the union of the layers' matchings. Without, the result
            is a `hungarian_core.SetLoss`.
        bins: As for `hungarian_core.boxes.distributions.offsets`.
        up: Likewise.
        reg_scale: Likewise.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Peng et al., D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution
        Refinement, ICLR 2025; the configuration dfine_hgnetv2 of its repository.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> boxes = rng.uniform(0.2, 0.4, size=(4, 1, 10, 4))  # of encoder and decoder
        >>> outputs = {"logits": np.zeros((4, 1, 10, 80)), "boxes": boxes, "references": boxes[1]}
        >>> outputs["edges"] = rng.normal(size=(2, 1, 10, 4, 33))
        >>> targets = [{"labels": np.array([3]), "boxes": boxes[-1, 0, 5:6]}]
        >>> losses = hc.criteria.d_fine(80)(outputs, targets).losses
        >>> {name: x.shape for name, x in losses.items()}
        {'class': (4,), 'bbox': (4,), 'giou': (4,), 'fgl': (4,), 'ddf': (4,)}
    """
    classes = Classes(num_classes, loss="varifocal", cost_weight=2.0, alpha=0.75)
    return _refining(classes, union, bins, up, reg_scale, options)


def deimv2(
    num_classes: int,
    *,
    union: bool = True,
    bins: int = 32,
    up: float = 0.5,
    reg_scale: float = 4.0,
    **options: Any,
) -> UnionLoss | SetLoss:
    """Return the criterion of DEIMv2.

    It is that of `d_fine`, with the matchability-aware loss of exponent 1.5 in the place of the
    varifocal one; arrays, and what is said of denoising, are the same. What is not included: the
    cost ``-p * IoU**4`` by which its repository matches from a late epoch on. The smallest models
    have neither edges nor the union: they are `DetrLoss` with ``class_loss="mal"``, ``gamma=1.5``,
    ``cost_gamma=2`` and ``class_cost=2``.

    Args:
        num_classes: The number of classes.
        union: As for `d_fine`; transformers call it `use_dense_one_to_one`.
        bins: As for `hungarian_core.boxes.distributions.offsets`.
        up: Likewise.
        reg_scale: Likewise.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Huang et al., Real-Time Object Detection Meets DINOv3, 2025, the configuration deimv2 of its
        repository; the classes' loss is that of DEIM, CVPR 2025.

    Examples:
        >>> hc.criteria.deimv2(80, union=False).terms[0]
        Classes(num_classes=80, loss='mal', cost_weight=2.0, gamma=1.5, cost_gamma=2.0)
    """
    classes = Classes(num_classes, loss="mal", cost_weight=2.0, gamma=1.5, cost_gamma=2.0)
    return _refining(classes, union, bins, up, reg_scale, options)


def detr3d(num_classes: int, **options: Any) -> SetLoss:
    """Return the criterion of DETR3D, for boxes in space.

    Outputs are ``"logits"`` `(B, Q, num_classes)` and ``"boxes"`` `(B, Q, 10)`, targets
    ``"labels"`` and ``"boxes"`` `(B, M, 9)`, coded as for `hungarian_core.terms.Boxes3D` and in
    metres. Matching costs 2 times focal and 0.25 times the L1 distance of the first eight codes;
    the loss is 2 times focal and 0.25 times the L1 distance of all ten, with 0.2 for velocities.
    Both sums are divided by the number of objects. The published IoU has the weight 0 and is left
    out. An object of which a number is not finite, such as an unknown velocity, has no L1 distance
    there; here it is an error: give 0, or have it ignored.

    Args:
        num_classes: The number of classes.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Wang et al., DETR3D: 3D Object Detection from Multi-view Images via 3D-to-2D Queries, CoRL
        2021, configuration detr3d_res101_gridmask.

    Examples:
        >>> car = np.array([9.0, 2.0, 1.0, 2.0, 4.0, 1.5, 0.0, 5.0, 0.0])
        >>> codes = np.array([9.0, 2.0, np.log(2), np.log(4), 1.0, np.log(1.5), 0, 1, 5, 0])
        >>> outputs = {"logits": np.zeros((1, 2, 10)), "boxes": np.stack([codes - 1, codes])[None]}
        >>> targets = [{"labels": np.array([0]), "boxes": car[None]}]
        >>> hc.criteria.detr3d(10)(outputs, targets).assignment.col4row
        array([[1]])
    """
    classes = Classes(num_classes, loss="focal", weight=2.0)
    return SetLoss([classes, Boxes3D(bbox_weight=0.25)], **options)


def grounding_dino(**options: Any) -> SetLoss:
    """Return the criterion of Grounding DINO.

    Outputs are ``"logits"`` `(B, Q, C)` of the C tokens of a text, ``"boxes"`` `(B, Q, 4)` in
    cxcywh, and ``"token_mask"`` `(B, C)`; targets ``"token_maps"`` `(n, C)`, which tokens name an
    object, and ``"boxes"``. Matching costs are the focal cost of an object's tokens on average, the
    L1 distance and the GIoU of boxes with the weights 1, 5 and 2; losses the focal loss of all
    tokens, L1 and GIoU with 2, 5 and 2.

    It is also the one with which transformers trains its port of MM-Grounding-DINO, see
    `mm_grounding_dino`. The encoder's proposals have the same criterion, in a call of their own
    where they are not as many as the queries. What is not included: queries for denoising.

    Args:
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Liu et al., Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object
        Detection, ECCV 2024, section 3.4; the weights are those of its repository and of
        transformers.

    Examples:
        >>> boxes = np.array([[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]])
        >>> outputs = {"logits": np.zeros((1, 2, 4)), "boxes": boxes[None]}
        >>> targets = [{"token_maps": np.array([[0, 1, 1, 0]]), "boxes": boxes[1:]}]
        >>> losses = hc.criteria.grounding_dino()(outputs, targets)
        >>> losses.assignment.col4row
        array([[1]])
        >>> sorted(losses.losses)
        ['bbox', 'giou', 'token']
    """
    return SetLoss([Tokens(weight=2.0, cost_weight=1.0), Boxes()], **options)


def map_tr(
    num_classes: int,
    *,
    closed: bool | str = "closed",
    given: bool = False,
    scale: Sequence[float] = (30.0, 60.0),
    **options: Any,
) -> SetLoss:
    """Return the criterion of MapTR, for maps of lanes, crossings and kerbs.

    Outputs are ``"logits"`` `(..., C)` and ``"points"`` `(..., K, 2)`, relative to the map.
    Targets are ``"labels"``, ``"points"`` and, by default, ``"closed"``, `(B, M)` bool. The last
    point of a closed element repeats the first.

    The loss is ``2 * focal + 5 * L1 + 0.005 * (1 - cos)``: the sums over points, and over edges in
    metres, in the nearest order. Matching costs ``2 * focal + 5 * L1``. That is the configuration
    `maptr_tiny_r50_24e` of the authors, whose terms of boxes weigh 0. By default equivalent orders
    are shifts and reverses of the points as they are, its pattern ``"v4"``; its own pattern,
    ``"v2"``, goes round an element from each of its vertices anew, which is known where the data
    are read. With `given`, targets hold such orders, `(B, M, O, K, 2)`, and no ``"closed"``.

    Args:
        num_classes: The number of classes.
        closed: As for `hungarian_core.terms.Polylines`.
        given: Likewise.
        scale: How long and wide the map is, in the order of the coordinates.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Liao et al., MapTR: Structured Modeling and Learning for Online Vectorized HD Map
        Construction, ICLR 2023, section 3.2.

    Examples:
        >>> criterion = hc.criteria.map_tr(3)
        >>> rng = np.random.default_rng(0)
        >>> outputs = {"logits": np.zeros((1, 50, 3)), "points": rng.random((1, 50, 20, 2))}
        >>> kerbs = outputs["points"][0, [7, 4], ::-1]
        >>> targets = [{"labels": np.array([2, 2]), "points": kerbs, "closed": np.zeros(2, bool)}]
        >>> losses = criterion(outputs, targets)
        >>> losses.assignment.col4row.tolist(), sorted(losses.losses)
        ([[7, 4]], ['class', 'direction', 'points'])
    """
    classes = Classes(num_classes, loss="focal", weight=2.0)
    lines = Polylines(closed=not given and closed, repeated=True, given=given, scale=scale)
    return SetLoss([classes, lines], **options)


def mdetr(**options: Any) -> SetLoss:
    """Return the criterion of MDETR's pre-training.

    Outputs are ``"logits"`` `(B, Q, C)` of the C tokens of a text, the last of which stands for "no
    object", ``"boxes"`` `(B, Q, 4)` in cxcywh, and ``"similarities"`` `(B, Q, C)`, the products of
    the normalised embeddings of queries and tokens; targets ``"token_maps"`` `(n, C)`, which tokens
    name an object, and ``"boxes"``. Soft token prediction by softmax, L1 and GIoU have the weights
    1, 5 and 2 in matching cost and loss, the contrastive alignment 1 in the loss. What is not
    included: the losses of question answering; and where ``"token_mask"`` `(B, C)` is given, tokens
    that there are not are left out, which the authors leave in.

    Args:
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Kamath et al., MDETR: Modulated Detection for End-to-End Multi-Modal Understanding, ICCV
        2021, section 3.2, with the weights of its repository.

    Examples:
        >>> boxes = np.array([[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]])
        >>> tokens = np.zeros((1, 2, 4))
        >>> outputs = {"logits": tokens, "similarities": tokens, "boxes": boxes[None]}
        >>> targets = [{"token_maps": np.array([[0, 1, 1, 0]]), "boxes": boxes[1:]}]
        >>> losses = hc.criteria.mdetr()(outputs, targets)
        >>> losses.assignment.col4row
        array([[1]])
        >>> sorted(losses.losses)
        ['alignment', 'bbox', 'giou', 'token']
    """
    return SetLoss([Tokens(loss="softmax"), Boxes(), Alignment()], **options)


def mm_grounding_dino(**options: Any) -> SetLoss:
    """Return the criterion of MM-Grounding-DINO as its repository has it.

    Arrays are those of `grounding_dino`. The cost of classes is the focal loss of all tokens that
    there are, with the map as the target, so that long names cost more than short ones; with L1 and
    GIoU it has the weights 2, 5 and 2. Of the losses, focal, L1 and GIoU, the weights are 1, 5 and
    2. What is not included: queries for denoising.

    Args:
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Zhao et al., An Open and Comprehensive Pipeline for Unified Object Grounding and Detection,
        2024; the configuration grounding_dino_swin-t_pretrain_obj365 of mmdetection.

    Examples:
        >>> hc.criteria.mm_grounding_dino().terms[0]
        Tokens(cost='binary_focal', cost_weight=2.0)
    """
    return SetLoss([Tokens(cost="binary_focal", cost_weight=2.0), Boxes()], **options)


def obb(num_classes: int, *, period: float | None = None, **options: Any) -> SetLoss:
    """Return the criterion of Rotated Deformable DETR, for oriented bounding boxes.

    Outputs are ``"logits"`` `(B, Q, num_classes)` and ``"boxes"`` `(B, Q, 5)`, targets ``"labels"``
    and ``"boxes"``: (cx, cy, w, h, angle) as in :mod:`hungarian_core.boxes.rotated`, relative to
    the image, with the angles in radians. Matching costs and losses are those of Deformable DETR,
    with the weights 2, 5 and 2: focal, L1, of the angle divided by pi too, and in place of the
    GIoU ``1 - 1 / (1 + ln(1 + KLD))`` of the boxes' Gaussians.

    Published targets have the longer side first and angles from 0 to pi. What is not included: the
    queries that the two-stage variant picks from the encoder; and where an image is not square,
    relative boxes are not the turned rectangles that the published KLD has in pixels: give boxes in
    a unit that is the same along both axes, such as the longer side of the image.

    Args:
        num_classes: The number of classes.
        period: As for `hungarian_core.terms.RotatedBoxes`; None is published, and compares the
            angles as numbers.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        The configuration rotated_deformable-detr_r50_16xb2-50e_dota of Lee et al., Hausdorff
        Distance Matching with Adaptive Query Denoising for Rotated Detection Transformer, 2023;
        the divergence is that of Yang et al., NeurIPS 2021.

    Examples:
        >>> box = np.array([0.5, 0.5, 0.4, 0.2, 0.3])
        >>> outputs = {"logits": np.zeros((1, 2, 15)), "boxes": np.stack([box + 0.1, box])[None]}
        >>> targets = [{"labels": np.array([3]), "boxes": box[None]}]
        >>> losses = hc.criteria.obb(15)(outputs, targets)
        >>> losses.assignment.col4row
        array([[1]])
        >>> sorted(losses.losses)
        ['angle', 'bbox', 'class', 'kld']
    """
    boxes = RotatedBoxes(
        "kld", bbox_weight=5.0, angle_weight=5.0, overlap_weight=2.0, period=period
    )
    return SetLoss([Classes(num_classes, loss="focal", weight=2.0), boxes], **options)


def _refining(
    classes: Classes, union: bool, bins: int, up: float, reg_scale: float, options: dict[str, Any]
) -> UnionLoss | SetLoss:
    """Return the criterion of a model that refines boxes by distributions of their edges."""
    boxes, edges = Boxes(), EdgeDistributions(bins=bins, up=up, reg_scale=reg_scale)
    if union:
        return UnionLoss([classes], [boxes, edges], **options)
    return SetLoss([classes, boxes, edges], **options)
