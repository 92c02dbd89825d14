"""The checks find planted mistakes, and nothing to complain about where there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("array_api_strict", reason="one mutant needs its second device")

HERE = Path(__file__).parent
# A mistake, the module of the suite, and the check in it that must find it. The hooks are looked at
# by modules of their own; some mistakes the losses built on them must find too.
MUTANTS = [
    ("halved_gradient", "test_backend", "test_custom_vjp"),
    ("dropped_upstream", "test_backend", "test_custom_vjp"),
    ("halved_gather", "test_loss", "test_gradient"),
    ("nan_at_zero_distance", "test_loss", "test_gradient_is_zero_at_the_truth"),
    ("leaking_stop_gradient", "test_backend", "test_stop_gradient"),
    ("greedy_matcher", "test_assign", "test_optimal_and_certified"),
    ("wrong_duals", "test_assign", "test_optimal_and_certified"),
    ("wrong_index_dtype", "test_assign", "test_results_lie_where_the_input_lies"),
    ("wrong_float_dtype", "test_backend", "test_host_call"),
    ("wrong_device", "test_backend", "test_host_call"),
    ("neighbours_matter", "test_assign", "test_equal_inputs_give_equal_outputs"),
    ("early_loop", "test_backend", "test_while_loop_without_steps"),
    ("silent", "test_assign", "test_optimal_and_certified"),
    ("silent_status", "test_assign", "test_optimal_and_certified"),
    ("forgotten_sense", "test_assign", "test_linear_sum_assignment"),
    ("counted_twice", "test_backend", "test_all_reduce_of_one_worker"),
    ("halved_gradient", "test_detection", "test_gradients"),
    ("greedy_matcher", "test_detection", "test_terms"),
    ("greedy_matcher", "test_permutation", "test_value_and_gradient"),
    ("halved_gather", "test_aligned", "test_least_loss"),
    ("halved_gradient", "test_gradients", "test_blackbox"),
    ("dropped_upstream", "test_gradients", "test_perturbed"),
    ("leaking_stop_gradient", "test_gradients", "test_cost"),
]


def _run(mutant: str, folder: Path, *modules: str) -> tuple[int, str]:
    """Run the shipped checks as a stranger would, and return exit status and output."""
    path = os.pathsep.join([str(HERE / "third_party"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "--pyargs",
            *(f"hungarian_core.testing.{module}" for module in modules),
            "-p", "hungarian_core.testing.plugin",
            # The mutants' solver is the core's, which is slow where that one has much to do.
            "-k", "not test_shortlists_of_the_native_solver",
            "--driver", f"{HERE / 'mutants.py'}:{mutant}", "-p", "no:cacheprovider",
        ],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_healthy_backend_passes(tmp_path: Path) -> None:
    """On the modules that find the mistakes; nox -s third_party runs all on the same backend."""
    status, output = _run("healthy", tmp_path, *dict.fromkeys(module for _, module, _ in MUTANTS))
    assert status == 0, output
    assert int(re.findall(r"(\d+) passed", output)[0]) > 300


@pytest.mark.parametrize(("mutant", "module", "test"), MUTANTS)
def test_mutant_is_rejected(mutant: str, module: str, test: str, tmp_path: Path) -> None:
    status, output = _run(mutant, tmp_path, module)
    assert status == 1, output  # tests ran, and some failed
    failed = set(re.findall(r"^FAILED \S*::(\w+)", output, re.MULTILINE))
    assert test in failed, output
    assert "passed" in output  # the mistake was found where it is, not by a wreck
