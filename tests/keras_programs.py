"""A plugin of pytest for a process in which XLA compiles in haste, on JAX.

What Keras compiles, the steps of training and of evaluation, is compiled as for everybody.
"""

import functools

from keras.src.backend.jax import trainer

# The defaults of XLA.
trainer.jit = functools.partial(
    trainer.jit,
    compiler_options={"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True},
)
