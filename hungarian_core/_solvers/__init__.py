"""Who solves a batch of problems, by one contract: `Problem` in, `Solution` out.

`dispatch` chooses; `core` is the library's own algorithm in any framework; `host` finds solvers in
host memory, of which `scipy` is one; `policies` puts around a solver that only minimises what such
a solver lacks.
"""
