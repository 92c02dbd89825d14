"""What a loss takes of a whole step of training: a DETR with ResNet-50, on a CPU.

    python benchmarks/share_of_step.py [--repeats 5] [--only TEXT] [--json FILE]

The model of transformers has the shape of the published one, 100 queries, 91 classes, six layers
whose losses all count, and random weights; images are small, so that a CPU can have them. A step is
forward, loss, backward and AdamW. It is taken with transformers' loss, with ours in its place, and
with the mean of all outputs, which is next to nothing: what a step takes beyond that is the share
of the loss. Steps take turns, and the fastest counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from timing import Contender, arguments, fastest, machine, made_by, save

from hungarian_torch import TransformersLoss

CLASSES, QUERIES = 91, 100
# Images of a step, the side of one, and the most objects in it. COCO's have 7 on average.
SCENES = {"2 images of 256 x 256": (2, 256, 14), "8 images of 128 x 128": (8, 128, 14)}


def model() -> Any:
    """Return DETR with ResNet-50 and random weights."""
    config = hf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=hf.ResNetConfig(out_features=["stage4"]), num_labels=CLASSES,
        num_queries=QUERIES, auxiliary_loss=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return hf.DetrForObjectDetection(config).train()


def batch(images: int, side: int, most: int) -> dict[str, Any]:
    """Return images, and from none to `most` objects in each."""
    torch.manual_seed(0)
    counts = torch.linspace(0, most, images).round().int().tolist()
    labels = [
        {"class_labels": torch.randint(CLASSES, (n,)), "boxes": 0.2 + 0.3 * torch.rand(n, 4)}
        for n in counts
    ]
    return {"pixel_values": torch.rand(images, 3, side, side), "labels": labels}


def nothing(*outputs: Any, **_: Any) -> Any:
    """Return the mean of outputs as a loss of transformers."""
    logits, _, _, boxes, _, classes, coordinates = outputs
    total = sum(x.mean() for x in (logits, boxes, classes, coordinates))
    return total, {"loss": total}, None


def steps(images: int, side: int, most: int) -> dict[str, Callable[[], Any]]:
    """Return a step with each loss, all of one model, whose weights do not change."""
    given, net = batch(images, side, most), model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=0.0)
    losses = {
        "nothing": nothing,
        "transformers": net.loss_function,
        "ours": TransformersLoss.for_model(net),
    }

    def step(loss: Any) -> Callable[[], Any]:
        def call() -> Any:
            net.loss_function = loss
            torch.manual_seed(1)  # of dropout
            optimizer.zero_grad()
            out = net(**given)
            out.loss.backward()
            optimizer.step()
            return out.loss.detach()

        return call

    return {name: step(loss) for name, loss in losses.items()}


def main() -> None:
    """Print and save the figures."""
    torch.set_num_threads(2)
    options = arguments(__doc__, repeats=5, only="scenes whose names contain this")
    rows = []
    lines = [
        "<!-- made by benchmarks/share_of_step.py -->", "",
        "| a step of DETR with ResNet-50 | without a loss, s | transformers' | share | ours | "
        "share | the whole step is faster |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name, scene in SCENES.items():
        if options.only not in name:
            continue
        calls = steps(*scene)
        torch.testing.assert_close(calls["ours"](), calls["transformers"](), rtol=1e-5, atol=1e-6)
        times = fastest({k: Contender(x) for k, x in calls.items()}, options.repeats)
        theirs, ours, bare = (times[k] for k in ("transformers", "ours", "nothing"))
        rows.append({"name": name, "seconds": times})
        lines.append(
            f"| {name} | {bare:.3f} | {theirs:.3f} | {1 - bare / theirs:.1%} | {ours:.3f} | "
            f"{1 - bare / ours:.1%} | {theirs / ours:.3f} times |"
        )
        print(lines[-1], flush=True)
    lines += ["", made_by("python benchmarks/share_of_step.py", 2)]
    print("\n".join(lines))
    save(options.json, {"machine": machine(), "rows": rows})
    if options.json:
        options.json.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
