"""The native solver among signals, other processes and what the environment says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks of POSIX")

COSTS = """
import signal, threading, numpy as np, hungarian_core as hc
r = np.random.default_rng(0)
# Products of two factors: every search goes through nearly everything.
c = r.random((2500, 2)) @ r.random((2, 2500))
hc.assign(np.eye(2))
"""
# In each, a call that takes many seconds, after "go".
LONG = {
    "numpy": "print('go', flush=True)\nhc.assign(c)",
    "column_major": "print('go', flush=True)\nhc.assign(c.T)",
    "batch": "c = np.stack([c] * 3)\nprint('go', flush=True)\nhc.assign(c)",
    "torch": """
import torch
hc.assign(torch.eye(2))
print('go', flush=True)
hc.assign(torch.from_numpy(c))""",
    "jax": """
import jax
solve = jax.jit(lambda c: hc.assign(c).col4row)
c = jax.numpy.asarray(c)
solve.lower(c).compile()
print('go', flush=True)
solve(c).block_until_ready()""",
    # While the main thread waits for another, which is interrupted as well.
    "thread": """
other = threading.Thread(target=hc.assign, args=(c,))
other.start()
print('go', flush=True)
other.join()""",
}
LASTING = """
print('go', flush=True)
try:
    hc.assign(c)
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    few = np.stack([c[:300, :300]] * 4)
    assert np.array_equal(hc.assign(few).col4row[3], hc.assign(few[0]).col4row)
    print('works', flush=True)
"""
# A handler that does not raise: the call goes on, and ends.
HANDLER = """
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
expected = hc.assign(c[:1000, :1000]).cost
print('go', flush=True)
while not seen:
    found = hc.assign(c[:1000, :1000]).cost
assert found == expected
print('works', flush=True)
"""


def _interrupted(code: str) -> tuple[float, str, str]:
    """Run a program, interrupt it soon after "go"; return seconds, and what it printed where."""
    with subprocess.Popen(
        [sys.executable, "-c", COSTS + code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        try:
            assert child.stdout.readline().strip() == "go"
            time.sleep(0.3)
            start = time.monotonic()
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
            return time.monotonic() - start, out, err
        finally:
            child.kill()


@pytest.mark.parametrize("where", LONG)
def test_ctrl_c_ends_a_long_solve(where: str) -> None:
    if where in ("torch", "jax"):
        pytest.importorskip(where, reason=f"needs {where}")
    seconds, _, err = _interrupted(LONG[where])
    assert "KeyboardInterrupt" in err
    assert seconds < 4  # of which most are the end of the process


@pytest.mark.parametrize("code", [LASTING, HANDLER], ids=["caught", "handled"])
def test_after_an_interrupt_all_goes_on(code: str) -> None:
    _, out, err = _interrupted(code)
    assert out.strip() == "works", err


# Other processes

WORKERS = """
import multiprocessing, sys

def threads(_):
    import hungarian_native
    return hungarian_native.get_num_threads()

if __name__ == "__main__":
    for method in sys.argv[1:]:
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(threads, [0])[0])
"""


def test_one_thread_in_workers_however_started(tmp_path: object) -> None:
    script = f"{tmp_path}/workers.py"
    with open(script, "w") as file:
        file.write(WORKERS)
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, script, "spawn", "forkserver", "fork"],
        capture_output=True, text=True, timeout=120, env=clean, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["spawn", "1", "forkserver", "1", "fork", "1"], done.stderr


# Forks while another thread is in the first call there ever was, which imports.
FORK = """
import os, signal, threading, time
import numpy as np, hungarian_core as hc

first = threading.Thread(target=hc.assign, args=(np.eye(3),))
first.start()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(40)
        os._exit(int(hc.assign(np.eye(3)).cost))
    children.append(child)
first.join()
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_forks_during_the_first_call() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["[0,", "0,", "0]"], done.stderr


# The environment


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HUNGARIAN_NUM_THREADS", "abc", "expected a whole number from 1 to 1024. Instead"),
        ("HUNGARIAN_NUM_THREADS", "0", "expected a whole number"),
        ("HUNGARIAN_NUM_THREADS", "-1", "expected a whole number"),
        ("HUNGARIAN_NUM_THREADS", "2.5", "expected a whole number"),
        ("HUNGARIAN_NUM_THREADS", "99999", "expected a whole number"),
        ("HUNGARIAN_VARIANT", "foo", "expected one of base, v3, v4 that the processor has"),
        ("HUNGARIAN_NUM_THREADS", "2", ""),
        ("HUNGARIAN_NUM_THREADS", "", ""),
        ("HUNGARIAN_VARIANT", "base", ""),
    ],
)
def test_what_the_environment_says_wrongly_is_told(
    variable: str, value: str, expected: str
) -> None:
    code = "import numpy as np, hungarian_core as hc\nfor _ in range(3): hc.assign(np.eye(2))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, env={**os.environ, variable: value},
        check=True,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if "the environment says" in line]
    assert len(told) == bool(expected), done.stderr
    if expected:
        assert f"{variable}={value!r}" in told[0]
        assert expected in told[0]
