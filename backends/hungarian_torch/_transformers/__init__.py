"""The losses of the models of `transformers` that match, made of the library's own.

Nothing of `transformers` is imported: a model hands its loss everything there is to know.
"""

from hungarian_torch._transformers.criterion import TransformersCriterion
from hungarian_torch._transformers.loss import TransformersLoss

__all__ = ["TransformersCriterion", "TransformersLoss"]
