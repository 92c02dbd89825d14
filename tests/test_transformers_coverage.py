"""Every loss of the installed transformers that matches: served, or refused for a reason."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
hf: Any = pytest.importorskip("transformers", reason="its losses are the subject")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")
TransformersLoss = ht.TransformersLoss

# Functions of `LOSS_MAPPING` that match nothing.
WITHOUT_A_MATCHING = {
    "ForCTCLoss", "ForCausalLMLoss", "ForMaskedLMLoss", "ForQuestionAnsweringLoss",
    "ForSemanticSegmentationLoss", "ForSequenceClassificationLoss", "ForTokenClassification",
    "ParakeetForRNNTLoss", "ParakeetForTDTLoss", "PocketTTSForConditionalGenerationLoss",
}  # fmt: skip
# Folders of `models` whose modelling code solves assignments itself, and is not replaced.
SOLVERS = {
    "inkling": "it orders scales when it is made, and has no matched loss",
}
# Detectors that have no loss for training.
UNTRAINED = {
    "OmDetTurboForObjectDetection", "OwlViTForObjectDetection", "Owlv2ForObjectDetection",
    "PPDocLayoutV2ForObjectDetection", "PPDocLayoutV3ForObjectDetection",
    "PPDocLayoutV4ForObjectDetection", "PPOCRV5MobileDetForObjectDetection",
    "PPOCRV5ServerDetForObjectDetection", "PPOCRV6MediumDetForObjectDetection",
    "PPOCRV6SmallDetForObjectDetection",
}  # fmt: skip


def served(loss_type: str) -> bool:
    """Say whether there is a loss of this type."""
    try:
        TransformersLoss(loss_type)
    except ValueError:
        return False
    return True


def test_loss_mapping() -> None:
    from transformers.loss.loss_utils import LOSS_MAPPING

    matched = {name for name, x in LOSS_MAPPING.items() if x.__name__ not in WITHOUT_A_MATCHING}
    assert {name for name in matched if not served(name)} == set()
    assert not any(served(name) for name in set(LOSS_MAPPING) - matched)


def test_modelling_code() -> None:
    models = Path(inspect.getfile(hf)).parent / "models"
    found = {
        path.parent.name
        for path in models.glob("*/modeling_*.py")
        if "linear_sum_assignment(" in path.read_text(encoding="utf-8")
    }
    for name in found - set(SOLVERS):
        assert ht.TransformersCriterion(name, None).model_type == name
    assert found > set(SOLVERS)


def unmade(name: str) -> Any:
    """Return a model of a class, without weights."""
    kind = getattr(hf, name)
    model = kind.__new__(kind)
    torch.nn.Module.__init__(model)
    return model


def test_detectors() -> None:
    """Every detector has a loss that is served, or is refused in words."""
    from transformers.loss.loss_utils import LOSS_MAPPING

    names = {name for name in dir(hf) if name.endswith("ForObjectDetection")}
    detectors = {name for name in names if not name.startswith("AutoModel")}
    assert {"DetrForObjectDetection", *UNTRAINED} < detectors
    for name in sorted(detectors):
        model = unmade(name)
        model.loss_type = name if name in LOSS_MAPPING else "ForObjectDetection"
        if name in UNTRAINED:
            sentence = f"{name} never calls its loss_function: it has no loss for training"
            with pytest.raises(ValueError, match=sentence):
                TransformersLoss.for_model(model)
        else:
            assert TransformersLoss.for_model(model).loss_type == model.loss_type


def test_models_with_a_criterion_of_their_own() -> None:
    model = unmade("Mask2FormerForUniversalSegmentation")
    model.criterion = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"TransformersCriterion\.for_model"):
        TransformersLoss.for_model(model)


def test_models_that_are_wrapped() -> None:
    """`torch.compile` hands on what is set, and other wrappers keep it from the model."""
    model = unmade("DetrForObjectDetection")
    model.loss_type = "ForObjectDetection"
    compiled = torch.compile(model)
    compiled.loss_function = TransformersLoss.for_model(compiled)
    assert isinstance(model.loss_function, TransformersLoss)
    with pytest.raises(ValueError, match="DataParallel is no model of transformers"):
        TransformersLoss.for_model(torch.nn.DataParallel(model))
