"""The parameters of the network: what a new one starts from."""

from __future__ import annotations

import numpy as np

from hungarian_core.hnet import _checks

FEATURES = 6  # of a distance, as the network sees it


def init_params(*, width: int = 16, layers: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random parameters to start training from, float32.

    Args:
        width: The channels of the perceptron.
        layers: How often rows and columns answer each other. The larger a problem, the more it
            needs: 3 do for 2 rows and columns, 15 for 10.
        seed: The same seed gives the same parameters.

    Returns:
        The parameters. Their names and shapes say all about the architecture. They are
        ``input.weight`` `(6, width)`, ``input.bias`` `(width,)`, ``gate.weight``
        `(6 + 5 width, width)`, ``gate.bias`` `(width,)`, ``gate.out`` `(width,)` and
        ``gate.offset`` `()` of the perceptron; ``layers.momentum`` `(layers, 2)`; and the numbers
        `()` ``cost.scale``, ``cost.gate``, ``side.slope``, ``score.scale``, ``score.offset`` and
        ``score.gate``.

    Examples:
        >>> params = hc.hnet.init_params(width=4, layers=3)
        >>> params["input.weight"].shape
        (6, 4)
    """
    _checks.size("width", width)
    _checks.size("layers", layers)
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)

    start = {
        "gate.offset": 0, "cost.scale": 1, "cost.gate": 4, "side.slope": 8, "score.scale": 8,
        "score.offset": 0, "score.gate": 1,
    }  # fmt: skip
    return {
        "input.weight": weight(FEATURES, width),
        "input.bias": np.zeros(width, np.float32),
        "gate.weight": weight(FEATURES + 5 * width, width),
        "gate.bias": np.zeros(width, np.float32),
        "gate.out": weight(width),
        "layers.momentum": np.zeros((layers, 2), np.float32),
        **{name: np.array(value, np.float32) for name, value in start.items()},
    }
