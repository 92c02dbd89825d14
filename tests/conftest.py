"""What several modules of tests need."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread: for work this small, more of them wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Return `loaded`, and keep ultralytics from writing settings elsewhere."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        yield loaded


def loaded(name: str, *, without: Sequence[str] = ()) -> Any:
    """Return a module of an installed package, or skip.

    A package for training brings gigabytes that its loss never reads. So such a package is
    installed alone, the `__init__` of the packages around a module does not run, and what the
    module imports for other purposes has a stand-in.

    Args:
        name: Of the module, with its packages.
        without: Packages that it imports and does not need here.
    """
    import torch
    from PIL import Image

    root = name.partition(".")[0]
    folders = [Path(folder) for folder in sys.path if (Path(folder) / root).is_dir()]
    if not folders:
        pytest.skip(f"{root} is not installed")
    before = dict(sys.modules)
    parts = name.split(".")
    try:
        for k in range(1, len(parts)):
            around = ModuleType(".".join(parts[:k]))
            around.__path__ = [str(folder.joinpath(*parts[:k])) for folder in folders]
            around.__dict__["__version__"] = "0.0"
            sys.modules[around.__name__] = around
        stand_ins = {x: mock.MagicMock(__path__=[], __version__="0.0") for x in without}
        sys.modules.update(stand_ins)
        versions = importlib.metadata.version
        # What they set for all of a process is set back, or not set: ultralytics has its own ways
        # to print arrays, to save, and to open images.
        with (
            warnings.catch_warnings(action="ignore"),
            mock.patch.dict(os.environ),
            mock.patch.object(np, "set_printoptions"),
            mock.patch.object(torch, "set_printoptions"),
            mock.patch.object(torch, "save", torch.save),
            mock.patch.object(Image, "open", Image.open),
            mock.patch.object(
                importlib.metadata, "version", lambda x: "0.0" if x in stand_ins else versions(x)
            ),
        ):
            return importlib.import_module(name)
    finally:
        # Others, such as transformers, look for these packages too, and would find them maimed.
        roots = {root, *(x.partition(".")[0] for x in without)}
        for each in [x for x in sys.modules if x.partition(".")[0] in roots and x not in before]:
            del sys.modules[each]
        sys.modules.update({x: y for x, y in before.items() if x.partition(".")[0] in roots})


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Return a folder of rectangles of two classes in the layout of PASCAL VOC."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    from PIL import Image

    folder = tmp_path / "data"
    random = np.random.default_rng(0)
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for k in range(16):
        pixels = random.integers(60, size=(48, 64, 3), dtype=np.uint8)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = f"{k:02}.png"
        for label in random.integers(2, size=1 + k % 3):
            x, y = random.integers(40), random.integers(30)
            w, h = random.integers(8, 20, size=2)
            pixels[y : y + h, x : x + w, label] = 220
            element = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(element, "name").text = ("circle", "square")[label]
            box = ElementTree.SubElement(element, "bndbox")
            corners = {"xmin": x + 1, "ymin": y + 1, "xmax": min(x + w, 64), "ymax": min(y + h, 48)}
            for side, value in corners.items():
                ElementTree.SubElement(box, side).text = f"{value}"
        ElementTree.ElementTree(root).write(folder / "Annotations" / f"{k:02}.xml")
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{k:02}.png")
    for split, (first, end) in {"train": (0, 8), "val": (8, 12), "test": (12, 16)}.items():
        names = "".join(f"{k:02}\n" for k in range(first, end))
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    return folder


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the files beside the examples be imported, as a script finds them."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for need in ("PIL", "scipy", "matplotlib", "pycocotools"):
        pytest.importorskip(need, reason=f"{need} is not installed")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before, threads = set(sys.modules), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for path in EXAMPLES.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


@pytest.fixture
def three_steps(tmp_path: Path) -> Callable[..., list[list[float]]]:
    """Return what takes three steps with `Trainer` of transformers, always on one batch."""

    def taken(model: Any, batch: dict[str, Any]) -> list[list[float]]:
        """Return the losses of the steps and the norms of their gradients."""
        import transformers

        settings = transformers.TrainingArguments(
            output_dir=tmp_path, max_steps=3, logging_steps=1, save_strategy="no", optim="sgd",
            learning_rate=1e-3, lr_scheduler_type="constant", seed=3, use_cpu=True,
            report_to="none", disable_tqdm=True, remove_unused_columns=False,
            dataloader_pin_memory=False, per_device_train_batch_size=1,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model=model, args=settings, data_collator=lambda samples: batch,
            train_dataset=[{}] * 3, callbacks=[],
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        steps = [x for x in trainer.state.log_history if "grad_norm" in x]
        return [[x[name] for x in steps] for name in ("loss", "grad_norm")]

    return taken
