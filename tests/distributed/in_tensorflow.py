"""`tf.distribute.MirroredStrategy` over two virtual CPUs: `in_tensorflow.py FOLDER`."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import workers

import hungarian_core as hc
from hungarian_keras import DetrLoss

(CPU,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * workers.WORKERS
)
STRATEGY = tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(workers.WORKERS)])

calls = workers.watch(hc.get_backend("tensorflow"))


def step(name: str, *arrays: tf.Tensor) -> Any:
    """Return the losses and gradients of one replica."""
    with tf.GradientTape() as tape:
        tape.watch(arrays[:2])
        found = workers.losses(name, arrays)
    return found, tape.gradient(found["total"], arrays[:2])


def on_replicas(name: str, arrays: Any) -> Any:
    """Return the losses and gradients of all replicas."""
    before = len(calls)
    found = STRATEGY.run(functools.partial(step, name), args=arrays)
    assert len(calls) - before == workers.WORKERS, f"{name}: {len(calls) - before} reductions"
    return found


@functools.cache
def program(name: str) -> Any:
    """Return the step of a loss on all replicas as a graph, which is traced once."""
    return tf.function(functools.partial(on_replicas, name), autograph=False)


def of_one(name: str, arrays: workers.Arrays) -> Any:
    """Return the losses and gradients of the whole batch."""
    return step(name, *map(tf.constant, arrays))


def of_both(name: str, arrays: workers.Arrays, eagerly: bool = False) -> Any:
    """Return the losses and gradients of both replicas."""
    run = functools.partial(on_replicas, name) if eagerly else program(name)
    found, slopes = run(tuple(_spread(x) for x in arrays))
    local = STRATEGY.experimental_local_results
    values = {k: tf.stack(local(x)) for k, x in found.items()}
    return values, [tf.concat(local(x), axis=0) for x in slopes]


def _spread(x: np.ndarray) -> Any:
    parts = np.split(x, workers.WORKERS)
    return STRATEGY.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


def step_of_weights(scope: Any, arrays: workers.Arrays) -> np.ndarray:
    """Return by what one step of `fit` changes a model's weights."""
    x, _, labels, boxes, mask, _ = arrays
    truths = np.concatenate([np.where(mask, labels, -1)[..., None], boxes], axis=-1)
    shape = (workers.QUERIES, workers.LOGITS + 4)
    with scope:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.layers.Dense(shape[0] * shape[1]), keras.layers.Reshape(shape)]
        )
        loss = DetrLoss(workers.LOGITS - 1, class_denominator="global")
        model.compile(keras.optimizers.SGD(1.0), loss=loss)
        model.build((None, workers.LOGITS))
    before = model.get_weights()
    model.fit(x[:, 0, 0], truths.astype(np.float32), batch_size=workers.IMAGES, verbose=0)
    pairs = zip(before, model.get_weights(), strict=True)
    return np.concatenate([(a - b).ravel() for a, b in pairs])


if __name__ == "__main__":
    found = workers.results("one", of_one, workers.COMPILED)
    found |= workers.results("several", of_both, workers.COMPILED)
    scenes = workers.scenes("uneven")
    found |= workers.named("focal/uneven/eager", *of_both("focal", scenes, eagerly=True))
    found["softmax/one/by_weights"] = step_of_weights(contextlib.nullcontext(), scenes)
    found["softmax/several/by_weights"] = step_of_weights(STRATEGY.scope(), scenes)
    np.savez(Path(sys.argv[1]) / "found.npz", **found)
