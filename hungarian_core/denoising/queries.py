"""Queries for denoising, and what a model has made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core._registry import backend_of


class DenoisingQueries(NamedTuple):
    """D queries per image, made from its true objects: a tuple of arrays, hence a pytree.

    They come in groups, each with the M objects in their order, then, of contrastive queries, the
    M objects again for those that are to become nothing.

    Attributes:
        labels: `(B, D)` index, the classes, some of them wrong; `num_classes` where there is no
            object, or one of no class, for which an embedding has one more row.
        boxes: `(B, D, 4)` in cxcywh, within the image, a constant; 0 where there is no object.
        assignment: `(B, D)` index, the object that each is to become, or -1: what `SetLoss` and
            `DetrLoss` take as ``assignment=``.
        mask: `(B, D)` bool, True where there is an object, whether to become it or not. Published
            losses grade the others too, as queries without an object; with this as
            ``query_mask=`` they are left out.
        group: `(D,)` index, the group of each.

    Examples:
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
        >>> noised = hc.denoising.contrastive_queries(targets, 3, seed=0, groups=2)
        >>> noised.assignment
        array([[ 0, -1,  0, -1]])
        >>> noised.attention_mask(1)
        array([[ True,  True, False, False,  True],
               [ True,  True, False, False,  True],
               [False, False,  True,  True,  True],
               [False, False,  True,  True,  True],
               [False, False, False, False,  True]])
    """

    labels: Array
    boxes: Array
    assignment: Array
    mask: Array
    group: Array

    def attention_mask(self, num_queries: int) -> Array:
        """Return which query may look at which, `(D + Q, D + Q)` bool, the Q usual ones behind.

        Rows are those who look. Nobody but its own group sees a query for denoising, since it
        tells where objects are. True is for those who may look, as in
        ``scaled_dot_product_attention``, Flax and Keras; ``torch.nn.MultiheadAttention`` takes
        the inverse.
        """
        _checks.whole("num_queries", num_queries, 0, "how many other queries there are")
        backend = backend_of(self.group)
        xp = backend.namespace(self.group)
        usual = xp.zeros_like(self.group[:1]) - 1
        group = xp.concat([self.group, xp.broadcast_to(usual, (num_queries,))], axis=0)
        return (group[None, :] == group[:, None]) | (group < 0)[None, :]


class Denoised(NamedTuple):
    """What a model has made of queries for denoising, as losses take it: ``denoising=``.

    Attributes:
        queries: The queries, D per image.
        outputs: The outputs for them by key, `(B, D, ...)` or `(L, B, D, ...)`, as a call of
            `hungarian_core.SetLoss` takes them; layers need not be as many as those of the model's
            own queries, which may have an encoder's beside them.
        query_mask: `(B, D)` bool, True where a query is to be graded; ``queries.mask`` leaves out
            what is padding, which published losses grade as queries without an object.

    Examples:
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
        >>> queries = hc.denoising.contrastive_queries(targets, 3, seed=0, groups=2)
        >>> made = {"logits": np.zeros((1, 4, 3)), "boxes": queries.boxes}
        >>> criterion = hc.DetrLoss.preset("dino", num_classes=3)
        >>> own = np.zeros((1, 10, 3)), np.full((1, 10, 4), 0.5)  # of 10 queries
        >>> denoising = hc.denoising.Denoised(queries, made)
        >>> losses = criterion(*own, targets, denoising=denoising)
        >>> sorted(losses.denoising)
        ['bbox', 'class', 'giou']
    """

    queries: DenoisingQueries
    outputs: Mapping[str, Array]
    query_mask: Array | None = None
