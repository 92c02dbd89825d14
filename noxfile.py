"""Every check of the project. `nox` runs what CI runs; `nox -s demo` runs the main job."""

import os
import shutil
import zipfile
from pathlib import Path

import nox

BACKENDS = ["numpy", "torch", "jax", "tensorflow", "array_api_strict"]
# Where the oldest and the newest versions are tried.
ENDS = [nox.param(name, id=name) for name in ("numpy", "torch", "jax", "tensorflow", "keras")]
# What each experiment needs: extras, then packages.
EXAMPLES = {
    "aligned_vs_detr": ("torch,demo", "pycocotools"),
    "differentiable_matching": ("torch,plot",),
    "directions": ("torch,jax,plot", "optax"),
}

# Codebases whose place the library takes, to test beside. What they ask for is gigabytes that these
# tests do not read, so each is installed alone. Later releases of supervision have no tracker.
CODEBASES = (
    "asteroid", "keras-hub", "norfair", "pyannote.audio", "rfdetr", "speechbrain",
    "supervision==0.26.1", "trackeval", "ultralytics",
)  # fmt: skip

# Environments as of venv, made in a tenth of the time: it copies pip, which venv installs anew.
# Not uv, which does not find PyTorch's wheel for CPUs.
nox.options.default_venv_backend = "virtualenv"
os.environ["VIRTUALENV_NO_PERIODIC_UPDATE"] = "1"  # it would look for newer pips meanwhile
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
CI = [
    "lint",
    "core",
    *(f"conformance({backend})" for backend in BACKENDS),
    "third_party",
    "integration",
    "hnet",
    "docs",
    "sanitize",
    "cuda",
    "wheel",
]
nox.options.sessions = CI


_wheels: dict[str, Path] = {}


def install(session: nox.Session, *packages: str) -> None:
    """Install at the versions of constraints.txt; what a session imports, it compiles then."""
    session.install("--no-compile", "-c", "constraints.txt", *packages)


def built(session: nox.Session, folder: str = "wheel", **environment: str) -> Path:
    """Return the project's wheel, built once for all sessions, as from source by anybody."""
    if folder not in _wheels:
        target = (session.cache_dir / folder).resolve()
        shutil.rmtree(target, ignore_errors=True)
        command = ("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(target), ".")
        session.run(*command, env={"CMAKE_BUILD_PARALLEL_LEVEL": "2", **environment}, silent=True)
        (_wheels[folder],) = target.glob("*.whl")
    return _wheels[folder]


def project(session: nox.Session, extras: str = "", *packages: str) -> None:
    """Install the project as a wheel, never -e."""
    wheel = str(built(session))
    install(session, wheel + (f"[{extras}]" if extras else ""), *packages)
    # pip leaves a wheel of the same version alone, and the environment may be of an earlier run.
    session.install("--no-compile", "--force-reinstall", "--no-deps", wheel)


# Two processes share the tests, and one that is done takes over what the other has left: two
# cores then take little more than half of the time. `-- -n 0` runs all in one process.
PARALLEL = ("-n", "2", "--dist", "worksteal")
# Threads of OpenMP that wait for each other on cores that another process has take twice the time.
# The native solver, whose threads sleep, keeps two, to be tested with them.
THREADS = {"OMP_NUM_THREADS": "1", "HUNGARIAN_NUM_THREADS": "2"}


def quiet(**extra: str) -> dict[str, str]:
    """Return an environment in which frameworks do not chatter or look for devices.

    And in which Python looks for no package where it is started: here it would find the sources.
    It keeps what it compiles, as most processes import the same.
    """
    python = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}
    return {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg", **python, **extra}


# Most of the time on JAX goes into compiling, once, what runs for microseconds; XLA in haste takes
# half of it. tests/drivers.py and tests/keras_programs.py have the programs under test compiled as
# for everybody nevertheless. Only at the versions of constraints.txt: a process ends at once at a
# flag that its XLA does not know.
HASTE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def check(session: nox.Session, *arguments: str, **extra: str) -> None:
    """Run pytest in two processes."""
    environment = quiet(**THREADS, **extra)
    session.run("pytest", *PARALLEL, *arguments, *session.posargs, env=environment)


def shipped_checks(session: nox.Session, drivers: str, *others: str, **extra: str) -> None:
    """Run the checks that the wheel brings, by the command of a stranger, and other tests."""
    location = f"tests/drivers.py:{drivers}"
    check(session, *others, "--pyargs", "hungarian_core.testing", "--driver", location, **extra)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint rules, types."""
    install(session, "ruff", "mypy", "numpy", "array-api-compat", "pytest", "nox")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def core(session: nox.Session) -> None:
    """The core alone: no framework, and no SciPy, is installed."""
    project(session, "", "pytest")
    session.run("pytest", "tests/test_core_alone.py", *session.posargs, env=quiet())


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def conformance(session: nox.Session, backend: str) -> None:
    """The one suite on one backend, eager and traced, with only that framework installed."""
    extra = "test" if backend == "array_api_strict" else f"{backend},test"
    peers = ["array-api-strict"] if backend == "array_api_strict" else []
    project(session, extra, "pytest-xdist", *peers)
    shipped_checks(session, backend, **({"XLA_FLAGS": HASTE} if backend == "jax" else {}))


def suite(session: nox.Session, backend: str) -> None:
    """Run what a backend has to pass; for Keras, which has no `Backend`, the tests of its doors."""
    if backend == "keras":
        check(session, "tests/test_keras.py")
    else:
        shipped_checks(session, backend)


def lowest(*extras: str) -> list[str]:
    """Return what pyproject.toml asks for, each at the lowest version that it allows."""
    promised = nox.project.load_toml("pyproject.toml")["project"]
    optional = promised["optional-dependencies"]
    needed = [*promised["dependencies"], *(x for extra in extras for x in optional[extra])]
    return [requirement.replace(">=", "==") for requirement in needed]


@nox.session(python="3.11")  # the oldest NumPy and SciPy have wheels for no newer Python
@nox.parametrize("backend", ENDS)
def oldest(session: nox.Session, backend: str) -> None:
    """The suite on the oldest versions promised. Linux's wheel of that PyTorch brings CUDA."""
    extras = ("test", *(("keras", "jax", "tensorflow") if backend == "keras" else (backend,)))
    session.install(*lowest(*extras), "pytest-xdist")
    session.install("--force-reinstall", "--no-deps", str(built(session)))
    session.run("python", "-m", "pip", "check")
    suite(session, backend)


@nox.session
@nox.parametrize("backend", ENDS)
def newest(session: nox.Session, backend: str) -> None:
    """The suite on the newest versions that pip finds, whatever constraints.txt says."""
    extras = "test,keras,jax,tensorflow" if backend == "keras" else f"test,{backend}"
    wheel = str(built(session))
    session.install("--upgrade", f"{wheel}[{extras}]", "pytest-xdist")
    session.install("--force-reinstall", "--no-deps", wheel)
    suite(session, backend)


@nox.session
def third_party(session: nox.Session) -> None:
    """A stranger's backend, installed as a stranger would, with the shipped checks."""
    project(session, "test", "pytest-xdist", "./tests/third_party")
    shipped_checks(session, "third_party", "tests/test_installed_solver.py")


@nox.session
def integration(session: nox.Session) -> None:
    """What needs all frameworks at once: agreement, Keras, mutants, properties, documentation."""
    peers = ("array-api-strict", "flax", "lapx", "motmetrics", "optax", "ott-jax", "torchmetrics")
    others = ("transformers", "accelerate", "lightning", "pycocotools", "shapely", "pytest-xdist")
    project(session, "all,test", *peers, *others)
    install(session, "--no-deps", *CODEBASES)
    # Not XLA_FLAGS: TensorFlow would read them too.
    check(session, "tests", "--ignore=tests/hnet", XLA_FLAGS_OF_JAX=HASTE)


@nox.session
def hnet(session: nox.Session) -> None:
    """The commands that train and examine the learned network, with Lightning and Ray."""
    project(session, "data,hnet,tune,test", "pycocotools", "pytest-xdist")
    check(session, "tests/hnet", "tests/test_examples.py::test_real_detection_by_ray")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error. What its search finds."""
    project(session, "docs,test")
    session.run("sphinx-build", "-W", "-n", "-q", "docs", "docs/_build")
    session.run("pytest", "tests/test_site_search.py", env=quiet())


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: train a small detector on real digits. `-- --backend torch` picks another."""
    framework = [name for name in ("torch", "tensorflow") if name in session.posargs]
    project(session, ",".join(["demo", *framework]))
    session.run("python", "-m", "hungarian_core", "demo", *session.posargs, env=quiet())


@nox.session
def sanitize(session: nox.Session) -> None:
    """The native solver's tests and a short fuzz, plain and under sanitizers, on each kernel.

    Threads share what is around the kernels, which are one text: their sanitizer needs one of them.
    """
    install(session, "cmake", "ninja")
    each = "base;v3;v4"
    for sanitizers, variants in (("", each), ("address,undefined", each), ("thread", "base")):
        folder = session.cache_dir / f"sanitize-{sanitizers.partition(',')[0]}"
        session.run(
            *("cmake", "-S", ".", "-B", str(folder), "-G", "Ninja", "--fresh"),
            *("-DHUNGARIAN_TESTS=ON", f"-DHUNGARIAN_SANITIZE={sanitizers}"),
            f"-DHUNGARIAN_VARIANTS={variants}",
            silent=True,
        )
        session.run("cmake", "--build", str(folder), silent=True)
        session.run("ctest", "--test-dir", str(folder), "-j2", "--output-on-failure")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random bytes as problems for a minute, or for `-- SECONDS SEED`, in an optimised build."""
    install(session, "cmake", "ninja")
    folder = session.cache_dir / "fuzz"
    options = ("-G", "Ninja", "--fresh", "-DHUNGARIAN_TESTS=ON")
    session.run("cmake", "-S", ".", "-B", str(folder), *options, silent=True)
    session.run("cmake", "--build", str(folder), silent=True)
    session.run(str(folder / "fuzz"), *(session.posargs or ("60",)), external=True)


def emulated(session: nox.Session) -> str:
    """Build what stands in for a CUDA driver, and return where it lies."""
    library = session.cache_dir.resolve() / "emulated_driver.so"
    session.run("python", "tests/cuda/build.py", str(library))
    return str(library)


SUITE_OF_KERNELS = (
    "assign", "backend", "loss", "permutation", "detection", "detection_degenerate",
    "class_losses",
)  # fmt: skip


@nox.session
def cuda(session: nox.Session) -> None:
    """The kernels for CUDA devices on a CPU: their PTX, tests, planted mistakes, the suite."""
    assembler, compiler = "nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvrtc-cu11"
    others = ("pytest-xdist", "flatbuffers")  # in which programs of JAX are saved
    project(session, "torch,jax,test", assembler, compiler, *others)
    session.run("python", "tests/cuda/ptx.py", "--check")
    library = emulated(session)
    check(session, "tests/cuda", "tests/gpu", HUNGARIAN_LIBCUDA=library)
    checks = [f"hungarian_core.testing.test_{name}" for name in SUITE_OF_KERNELS]
    check(
        session, "--pyargs", *checks, "--driver", "tests/cuda/drivers.py:emulated",
        "-k", "not core and not native and not scipy", HUNGARIAN_LIBCUDA=library,
    )  # fmt: skip


@nox.session
def gpu(session: nox.Session) -> None:
    """What wants a CUDA device, in ten minutes: tests, the suite, figures. Skipped without one."""
    project(session, "torch,jax,test", "transformers")
    code = "import torch; print(torch.cuda.is_available())"
    if "True" not in (session.run("python", "-c", code, silent=True) or ""):
        session.skip("PyTorch sees no CUDA device")
    environment = quiet() | {"PYTHONSAFEPATH": ""}  # a script finds the files beside it
    session.run("python", "tests/gpu/run.py", *session.posargs, env=environment)


@nox.session
def ptx(session: nox.Session) -> None:
    """Make the kernel's PTX again, after its source has changed."""
    install(session, "nvidia-cuda-nvrtc-cu11")
    session.run("python", "tests/cuda/ptx.py")


@nox.session
def wheel(session: nox.Session) -> None:
    """What the wheel holds; that it, and the one without a library, work without a compiler."""
    shipped, pure = built(session), built(session, "wheel-pure", HUNGARIAN_PURE="1")
    if "-py3-none-" not in shipped.name or shipped.name.endswith("-any.whl"):
        session.error(f"{shipped.name}: not one wheel for every Python of a platform")
    if not pure.name.endswith("-py3-none-any.whl"):
        session.error(f"{pure.name}: not one wheel for every platform")
    suffixes = (".py", "py.typed", ".safetensors", "libhungarian.so", "libhungarian.dylib")
    for path in (shipped, pure):
        with zipfile.ZipFile(path) as archive:
            content = [name for name in archive.namelist() if ".dist-info/" not in name]
            libraries = [name for name in content if name.endswith((".so", ".dylib"))]
            if path == shipped and b"HungarianJax" not in archive.read(libraries[0]):
                session.error("the library holds no XLA FFI handler")
        if len(libraries) != (path == shipped):
            session.error(f"{path.name} holds the libraries {libraries}")
        if foreign := [name for name in content if not name.endswith(suffixes)]:
            session.error(f"{path.name} holds {foreign}")

    install(session, f"{shipped}[scipy]")
    alone = {"PATH": session.bin, **quiet()}
    for path, solver in ((pure, "auto"), (shipped, "native")):
        session.install("--force-reinstall", "--no-deps", str(path))
        session.run("python", "tests/native/smoke.py", solver, env=alone)
        session.run("hungarian-core", "doctor", env=alone)


@nox.session
def bench(session: nox.Session) -> None:
    """Side-by-side figures against published solvers."""
    peers = ("optax", "lapx", "hungarian-loss==1.0.2", "transformers")
    project(session, "scipy,jax,torch,tensorflow,keras", *peers, "rich", "matplotlib")
    # A script finds the files beside it, which PYTHONSAFEPATH forbids, and not the sources.
    session.run(
        "python", "benchmarks/run.py", *session.posargs, env=quiet() | {"PYTHONSAFEPATH": ""}
    )


@nox.session
@nox.parametrize("name", [nox.param(name, id=name) for name in EXAMPLES])
def example(session: nox.Session, name: str) -> None:
    """The experiments that the documentation quotes; each takes minutes."""
    project(session, *EXAMPLES[name])
    # A script finds the files beside it, which PYTHONSAFEPATH forbids, and not the sources.
    session.run(
        *("python", f"examples/{name}.py"),
        *(session.posargs or ("--output", "examples/results")),
        env=quiet() | {"PYTHONSAFEPATH": ""},
    )


@nox.session
def tests(session: nox.Session) -> None:
    """All that CI needs: the sessions that a plain `nox` runs."""
    for name in CI:
        session.notify(name)


@nox.session
def lock(session: nox.Session) -> None:
    """Print the versions that constraints.txt should pin, from a fresh resolution."""
    session.install(
        *(".[all,hnet,tune,test,docs]", "torch==2.13.0", "array-api-strict", "nox", "ruff", "mypy"),
        *("optax", "ott-jax", "lapx", "hungarian-loss==1.0.2", "transformers", "torchmetrics"),
        *("flax", "motmetrics", "lightning", "pycocotools", "shapely", "pytest-xdist"),
        *("accelerate", "cmake", "ninja"),
        *("nvidia-cuda-nvrtc-cu11==11.7.99", "nvidia-cuda-nvcc-cu12"),
    )
    session.install("--no-deps", *CODEBASES)
    session.run("python", "-m", "pip", "freeze", "--exclude", "hungarian-core")
