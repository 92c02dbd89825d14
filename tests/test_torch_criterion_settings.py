"""`SetCriterion` and `HungarianMatcher`: changed settings, several processes, odd input."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)

import hungarian_core as hc  # noqa: E402  (after the check that it can be)
import hungarian_torch as ht  # noqa: E402

CLASSES, QUERIES = 4, 6
NAN, INF = float("nan"), float("inf")


def _outputs(queries: int = QUERIES, logits: int = CLASSES, images: int = 2, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pred_logits": 2 * torch.randn(images, queries, logits, generator=generator),
        "pred_boxes": 0.4 * torch.rand(images, queries, 4, generator=generator) + 0.3,
    }


def _targets(counts: list[int]) -> Any:
    generator = torch.Generator().manual_seed(9)
    return [
        {
            "labels": torch.randint(0, CLASSES, (n,), generator=generator),
            "boxes": 0.4 * torch.rand(n, 4, generator=generator) + 0.3,
        }
        for n in counts
    ]


def _with_denoising(counts: list[int], groups: int) -> Any:
    """Return outputs as of DINO; a batch without objects has no denoising queries."""
    outputs, size = _outputs(), 2 * max(counts)
    outputs["aux_outputs"] = [_outputs(seed=1)]
    outputs["interm_outputs"] = _outputs(seed=2)
    known = _outputs(size * groups, seed=3)
    known["aux_outputs"] = [_outputs(size * groups, seed=4)]
    outputs["dn_meta"] = {
        "pad_size": size * groups, "num_dn_group": groups, "output_known_lbs_bboxes": known,
    }  # fmt: skip
    return outputs


@pytest.mark.parametrize("others", [0, 1, 9])
@pytest.mark.parametrize("counts", [[1, 2], [0, 0]])
def test_processes_ask_each_other_once(
    counts: list[int], others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many objects each of them has; what they divide by is the number that DINO has.

    Three processes stand for the number of objects that all have together.
    """
    targets, groups = _targets(counts), 3
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    alone = criterion(_with_denoising(counts, groups), targets)
    asked: list[Any] = []

    def all_reduce(self: Any, x: Any) -> Any:
        asked.append(x)
        return x + torch.tensor([float(others), 2.0])

    monkeypatch.setattr(type(hc.get_backend("torch")), "all_reduce", all_reduce)
    found = criterion(_with_denoising(counts, groups), targets)
    assert len(asked) == 1
    own = sum(counts)
    share = max(own, 1) / max((own + others) / 3, 1)
    for name in alone:
        if "loss" in name:
            torch.testing.assert_close(found[name], alone[name] * share, msg=name)


def test_denoising_divides_a_number_of_at_least_1_by_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DINO multiplies by the number of groups after it has made 1 of less than 1 object."""
    targets = _targets([1, 0])
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    alone = criterion(_with_denoising([1, 0], 5), targets)
    monkeypatch.setattr(
        type(hc.get_backend("torch")),
        "all_reduce", lambda self, x: x + torch.tensor([0.0, 9.0]),
    )  # fmt: skip
    found = criterion(_with_denoising([1, 0], 5), targets)
    assert all(torch.equal(found[name], x) for name, x in alone.items() if "loss" in name)


CHANGES: list[tuple[str, Any]] = [
    ("class_cost", 0.0), ("bbox_cost", 0.0), ("giou_cost", 9.0), ("alpha", 0.9), ("gamma", 0.0),
    ("class_cost_form", "logsigmoid"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_matcher_that_is_changed(name: str, value: Any) -> None:
    """It matches as one that was made so, alone and in a criterion, and says so."""
    targets = _targets([3, 5])
    options: Any = {
        "class_cost": 2.0, "bbox_cost": 1.0, "giou_cost": 1.0, "class_cost_form": "sigmoid",
    }  # fmt: skip
    made = ht.HungarianMatcher(**{**options, name: value})
    changed = ht.HungarianMatcher(**options)
    criteria = [ht.SetCriterion(CLASSES, x, focal_alpha=0.25) for x in (changed, made)]
    criteria[0](_outputs(), targets)  # which may keep something
    changed(_outputs(), targets)
    setattr(changed, name, value)
    for seed in range(5):
        outputs = _outputs(seed=seed)
        for x, y in zip(changed(outputs, targets), made(outputs, targets), strict=True):
            assert all(map(torch.equal, x, y))
        found, expected = (criterion(outputs, targets) for criterion in criteria)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    again = eval(repr(changed), {"HungarianMatcher": ht.HungarianMatcher})
    assert again._costs == changed._costs == made._costs


def test_a_criterion_that_is_changed() -> None:
    outputs, targets = _outputs(), _targets([3, 2])
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    criterion(outputs, targets)
    criterion.matcher = ht.HungarianMatcher(0.0, 1.0, 0.0, class_cost_form="sigmoid")
    criterion.focal_alpha, criterion.losses = 0.5, ("labels",)
    expected = ht.SetCriterion(
        CLASSES, criterion.matcher, focal_alpha=0.5, losses=["labels"]
    )(outputs, targets)  # fmt: skip
    found = criterion(outputs, targets)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        again = other(outputs, targets)
        assert all(torch.equal(again[name], expected[name]) for name in expected)


def test_weights_are_those_that_were_given() -> None:
    weights = {"loss_ce": 1.0}
    criterion = ht.SetCriterion(CLASSES, weight_dict=weights)
    weights["loss_bbox"] = 5.0
    assert criterion.weight_dict is weights


def _of_lowest_cost(cost: np.ndarray) -> tuple[int, float, set[Any]]:
    """Return the least number of pairs that are no numbers, the least sum, and who has it."""
    queries, objects = cost.shape
    best: tuple[int, float] = (objects + 1, INF)
    who: set[Any] = set()
    for chosen in itertools.permutations(range(queries), objects):
        each = cost[list(chosen), range(objects)]
        usual = np.isfinite(each)
        value = int((~usual).sum()), float(each[usual].sum())
        if value[0] < best[0] or (value[0] == best[0] and value[1] < best[1] - 1e-5):
            best, who = value, {chosen}
        elif value[0] == best[0] and value[1] < best[1] + 1e-5:
            who.add(chosen)
    return *best, who


@pytest.mark.parametrize("form", ["softmax", "sigmoid", "logsigmoid"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_no_number_is_the_last_resort(form: Any, value: float) -> None:
    """Against every possible matching: as few such pairs as can be, and the least cost of others.

    Alone and in a criterion, whose losses are those of the matching.
    """
    rng = np.random.default_rng(0)
    matcher = ht.HungarianMatcher(1.0, 1.0, 0.0, class_cost_form=form)
    softmax = form == "softmax"
    for case in range(40):
        queries, count = int(rng.integers(2, 6)), int(rng.integers(1, 4))
        count = min(count, queries)
        outputs = _outputs(queries, CLASSES + softmax, 1, seed=case)
        # Few different costs, so that there are ties.
        outputs["pred_logits"] = torch.round(outputs["pred_logits"])
        outputs["pred_boxes"] = torch.round(outputs["pred_boxes"] * 4) / 4
        targets = _targets([count])
        spoilt = rng.random(queries) < 0.6
        outputs["pred_logits"][0, torch.from_numpy(spoilt), int(rng.integers(CLASSES))] = value
        if case % 2:
            outputs["pred_boxes"][0, torch.from_numpy(spoilt)] = abs(value)
        x, y = outputs["pred_logits"][0].double(), targets[0]["labels"]
        with np.errstate(invalid="ignore"):
            costs = hc.SetLoss([
                hc.terms.Classes(CLASSES, loss="softmax" if softmax else "focal", cost={
                    "softmax": "softmax", "sigmoid": "focal_published", "logsigmoid": "focal",
                }[form]),
                hc.terms.Boxes(bbox_cost=1.0, giou_cost=0.0),
            ], backend="numpy", solver="core").costs(
                {"logits": x[None].numpy(), "boxes": outputs["pred_boxes"].double().numpy()},
                [{"labels": y.numpy(), "boxes": targets[0]["boxes"].double().numpy()}],
            )  # fmt: skip
            cost = np.sum([*costs.values()], axis=0)[0].T
        _, _, who = _of_lowest_cost(cost)
        ((i, j),) = matcher(outputs, targets)
        assert tuple(int(i[j == k]) for k in range(count)) in who
        criterion = ht.SetCriterion(CLASSES, matcher, focal_alpha=None if softmax else 0.25)
        asking = ht.SetCriterion(
            CLASSES, lambda *batch: matcher(*batch), focal_alpha=None if softmax else 0.25
        )
        found, expected = criterion(outputs, targets), asking(outputs, targets)
        for name, x in expected.items():
            torch.testing.assert_close(found[name], x, equal_nan=True, msg=name)


def _pairs(*each: tuple[list[int], list[int]]) -> Any:
    return [tuple(map(torch.tensor, pair)) for pair in each]


WRONG = {
    "fewer images": (_pairs(([0], [0])), "1 pairs of index arrays; expected one for each of the 2"),
    "more images": (_pairs(*[([0], [0])] * 3), "3 pairs of index arrays"),
    "uneven": (_pairs(([0, 1], [0]), ([0], [0])), r"shapes \(2,\) and \(1,\)"),
    "negative": (_pairs(([0], [0]), ([-1], [0])), "image 1 -1 among the queries; there are 6"),
    "no such query": (_pairs(([0], [0]), ([6], [0])), "6 among the queries"),
    "no such object": (_pairs(([0], [2]), ([0], [0])), "2 among the objects; there are 2"),
    "twice": (_pairs(([1, 1], [0, 1]), ([0], [0])), "a query twice"),
    "no pair": ([torch.tensor([0])] * 2, "expected .queries, objects."),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_matcher_of_somebody_else_returns(kind: str) -> None:
    returned, message = WRONG[kind]
    criterion = ht.SetCriterion(CLASSES, lambda *_: returned, focal_alpha=0.25)
    with pytest.raises(ValueError, match=message):
        criterion(_outputs(), _targets([2, 1]))


def test_a_matcher_that_is_told_of_groups() -> None:
    """As RF-DETR's, which is always told, in evaluation that there is one."""
    told: list[int] = []
    ours = ht.HungarianMatcher(2.0, class_cost_form="sigmoid")

    def matcher(outputs: Any, targets: Any, group_detr: int) -> Any:
        told.append(group_detr)
        return ours(outputs, targets, group_detr)

    criterion = ht.SetCriterion(CLASSES, matcher, focal_alpha=0.25, group_detr=2)
    criterion(_outputs(), _targets([2, 1]))
    criterion.eval()(_outputs(), _targets([2, 1]))
    assert told == [2, 1]


def test_a_matcher_with_hooks_or_masks_is_asked() -> None:
    outputs, targets = _outputs(), _targets([2, 1])
    outputs["pred_masks"] = torch.randn(2, QUERIES, 4, 4, generator=torch.Generator())
    for target in targets:
        target["masks"] = torch.rand(len(target["labels"]), 4, 4) > 0.5
    asked: list[Any] = []
    matcher = ht.HungarianMatcher(2.0, class_cost_form="sigmoid")
    expected = ht.SetCriterion(CLASSES, matcher, focal_alpha=0.25)(outputs, targets)
    matcher.register_forward_hook(lambda *_: asked.append(1))
    found = ht.SetCriterion(CLASSES, matcher, focal_alpha=0.25)(outputs, targets)
    assert asked == [1]
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x)
    by_masks = ht.HungarianMatcher(
        0.0, 0.0, 0.0, mask_cost=1.0, dice_cost=1.0, class_cost_form="sigmoid"
    )
    found = ht.SetCriterion(CLASSES, by_masks, focal_alpha=0.25)(outputs, targets)
    asking = ht.SetCriterion(CLASSES, lambda *batch: by_masks(*batch), focal_alpha=0.25)
    for name, x in asking(outputs, targets).items():
        assert torch.equal(found[name], x)


def test_costs_of_masks_alone_read_no_boxes() -> None:
    """Mask2Former's matcher is made so."""
    matcher = ht.HungarianMatcher(cost_class=1.0, cost_mask=1.0, cost_dice=1.0, num_points=12)
    assert (matcher.bbox_cost, matcher.giou_cost) == (0.0, 0.0)
    outputs = {
        "pred_logits": torch.randn(1, 5, CLASSES + 1), "pred_masks": torch.randn(1, 5, 8, 8),
    }  # fmt: skip
    targets = [{"labels": torch.tensor([1, 0]), "masks": torch.rand(2, 8, 8) > 0.5}]
    ((queries, _),) = matcher(outputs, targets)
    assert len(queries) == 2
    assert ht.HungarianMatcher(cost_mask=1.0, cost_bbox=5.0)._costs[:3] == (1.0, 5.0, 2.0)
    assert ht.HungarianMatcher()._costs[:3] == (1.0, 5.0, 2.0)
    for options in ({"class_cost": 1, "cost_class": 2}, {"mask_cost": 0.0, "cost_mask": 1}):
        with pytest.raises(ValueError, match="expected one of the two"):
            ht.HungarianMatcher(**options)


def test_layers_by_both_names_and_none() -> None:
    outputs, targets = _outputs(), _targets([2, 1])
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    before = [_outputs(seed=1)]
    expected = criterion({**outputs, "aux_outputs": before}, targets)
    found = criterion({**outputs, "auxiliary_outputs": before}, targets)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], x) for name, x in expected.items())
    bare = criterion(outputs, targets)
    nested = ("aux_outputs", "auxiliary_outputs", "enc_outputs", "interm_outputs")
    assert set(criterion({**outputs, **dict.fromkeys(nested)}, targets)) == set(bare)


def test_what_was_passed_is_told() -> None:
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    outputs, targets = _outputs(), _targets([2, 1])
    with pytest.raises(ValueError, match=r"the logits of the layers have the shapes"):
        criterion({**outputs, "aux_outputs": [_outputs(7)]}, targets)
    for wrong in (None, tuple(targets[0].values()), targets[0]):
        with pytest.raises(TypeError, match="expected a list with one mapping per image"):
            criterion(outputs, wrong)
    with pytest.raises(ValueError, match=r"'logits' or 'pred_logits'"):
        criterion(None, targets)
    with pytest.raises(ValueError, match="losses is empty"):
        ht.SetCriterion(CLASSES, losses=[])
    only = ht.SetCriterion(CLASSES, losses=["cardinality"])
    assert set(only(_outputs(logits=CLASSES + 1), targets)) == {"cardinality_error"}


def test_the_buffer_of_detr() -> None:
    """A checkpoint of a model that held DETR's criterion loads, if it was made alike."""
    weight = torch.ones(CLASSES + 1)
    weight[-1] = 0.1
    module = torch.nn.ModuleDict({"criterion": ht.SetCriterion(CLASSES)})
    module.load_state_dict({"criterion.empty_weight": weight})
    with pytest.raises(RuntimeError, match=r"criterion\.empty_weight is .*eos_coef=0\.1"):
        module.load_state_dict({"criterion.empty_weight": torch.ones(CLASSES + 1)})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({"criterion.other": weight})
