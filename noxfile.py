"""Every check of the project. `nox` runs what CI runs; `nox -s demo` runs the main job."""

import nox

BACKENDS = ["numpy", "torch", "jax", "tensorflow", "array_api_strict"]

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
CI = [
    "lint",
    "core",
    *(f"conformance({backend})" for backend in BACKENDS),
    "third_party",
    "integration",
    "docs",
]
nox.options.sessions = CI


def install(session: nox.Session, *packages: str) -> None:
    """Install at the versions of constraints.txt; the project as a built wheel, never -e."""
    session.install("-c", "constraints.txt", *packages)


def quiet(**extra: str) -> dict[str, str]:
    """Return an environment in which frameworks do not chatter or look for devices."""
    return {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg", **extra}


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
    install(session, ".", "pytest")
    session.run("pytest", "tests/test_core_alone.py", *session.posargs, env=quiet())


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def conformance(session: nox.Session, backend: str) -> None:
    """The one suite on one backend, eager and traced, with only that framework installed."""
    extra = "test" if backend == "array_api_strict" else f"{backend},test"
    install(
        session, f".[{extra}]", *(["array-api-strict"] if backend == "array_api_strict" else [])
    )
    session.run("pytest", "tests/conformance", "--backend", backend, *session.posargs, env=quiet())


@nox.session
def third_party(session: nox.Session) -> None:
    """A stranger's backend, installed as a stranger would, with the shipped checks."""
    install(session, ".[test]", "./tests/third_party")
    session.run("pytest", "tests/conformance", "--backend", "third_party", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """What needs all frameworks at once: agreement, Keras, mutants, properties, documentation."""
    install(session, ".[all,test]", "array-api-strict", "optax")
    session.run("pytest", "tests", "--ignore=tests/conformance", *session.posargs, env=quiet())


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    install(session, ".[docs]")
    session.run("sphinx-build", "-W", "-n", "-q", "docs", "docs/_build")


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: train a small detector on real digits. `-- --backend torch` picks another."""
    framework = [name for name in ("torch", "tensorflow") if name in session.posargs]
    install(session, f".[{','.join(['demo', *framework])}]")
    session.run("python", "-m", "hungarian_core", "demo", *session.posargs, env=quiet())


@nox.session
def bench(session: nox.Session) -> None:
    """Side-by-side figures against published solvers."""
    install(session, ".[jax,scipy]", "optax")
    session.run("python", "benchmarks/core.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All that CI needs: the sessions that a plain `nox` runs."""
    for name in CI:
        session.notify(name)


@nox.session
def lock(session: nox.Session) -> None:
    """Print the versions that constraints.txt should pin, from a fresh resolution."""
    session.install(
        ".[all,test,docs]", "torch==2.13.0", "array-api-strict", "optax", "nox", "ruff", "mypy"
    )
    session.run("python", "-m", "pip", "freeze", "--exclude", "hungarian-core")
