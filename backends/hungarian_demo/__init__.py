"""The main job: train a small detector of handwritten digits, with and without matching.

A package of its own, because it has to choose the backend of Keras before Keras, which
`hungarian_keras` imports, is there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

BACKENDS = ("jax", "torch", "tensorflow")
STEPS = 700
# The packages of the extra by their names for pip.
NEEDED = {
    "keras": "keras",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "rich": "rich",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print what matching buys, save a picture, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="hungarian-core demo",
        description="Train a small set-prediction detector on scenes of handwritten digits, once "
        "with a loss that matches predictions to truths and once with one that pairs them by "
        "position, and compare the two on held-out scenes.",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="jax", help="of Keras (%(default)s)")
    parser.add_argument(
        "--steps", type=_positive, help=f"batches of new scenes to train on ({STEPS})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of scenes and weights (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("demo.png"), help="the picture (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="10 steps: only see that it runs")
    given = parser.parse_args(argv)

    missing = [title for name, title in NEEDED.items() if importlib.util.find_spec(name) is None]
    extras = ["demo"]
    if importlib.util.find_spec(given.backend) is None:
        missing.append(given.backend)
        extras += [] if given.backend == "jax" else [given.backend]
    if missing:
        print(
            f"the demo needs {', '.join(missing)}, which is not installed: "
            f'pip install "hungarian-core[{",".join(extras)}]"',
            file=sys.stderr,
        )
        return 1
    if not given.output.absolute().parent.is_dir():
        print(f"--output: there is no folder {given.output.absolute().parent}", file=sys.stderr)
        return 1

    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Keras loads TensorFlow if it is there
    import keras

    if keras.backend.backend() != given.backend:
        print(
            f"Keras already runs on {keras.backend.backend()} in this process; "
            f"start the demo in a new one to run it on {given.backend}",
            file=sys.stderr,
        )
        return 1
    from hungarian_demo.run import run

    steps = given.steps or (10 if given.quick else STEPS)
    run(steps, 60 if given.quick else 600, given.seed, given.output)
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value
