"""The options of `hungarian-core hnet`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hungarian_hnet.recipe import DISTANCES, MISSING, SCHEDULES, Recipe, Source

LOGGERS = ("csv", "tensorboard")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command and its five commands."""
    top = argparse.ArgumentParser(
        prog="hungarian-core hnet",
        description="Train and examine the network that learns the Hungarian algorithm.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add, name, summary in (
        (_data, "data", "generate a data set and save it"),
        (_train, "train", "train a network and save its weights"),
        (_eval, "eval", "measure a network on problems that it has not seen"),
        (_plot, "plot", "draw what a network does and how it was trained"),
        (_tune, "tune", "search for options of training, here or on a cluster"),
    ):
        add(
            commands.add_parser(
                name,
                help=summary,
                description=f"{summary[0].upper()}{summary[1:]}.",
                formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            )
        )
    return top


def _data(to: argparse.ArgumentParser) -> None:
    _problems(to)
    _seed_option(to)
    to.add_argument("--output", type=Path, default=Path("hnet-data.npz"), help="the file to write")


def _train(to: argparse.ArgumentParser) -> None:
    _recipe(to)
    _problems(to)
    _add(to, "--data", "generated problems", "a file of problems to train on", type=_path)
    _add(to, "--validation", "a tenth of --data", "a file to validate on", type=_path)
    to.add_argument(
        "--output", type=Path, default=Path("hnet"), help="the folder of the run, made if need be"
    )
    to.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --output, with its options; --epochs, --max-time, --patience "
        "and --logger may be given anew",
    )
    to.add_argument("--logger", choices=LOGGERS, default="csv", help="besides the CSV, which is")
    to.add_argument("--accelerator", default="cpu", help="of Lightning: cpu, gpu, auto, ...")
    to.add_argument("--threads", type=_positive, help="of PyTorch on a CPU")
    to.add_argument("--quiet", action="store_true", help="no progress bar")


def _eval(to: argparse.ArgumentParser) -> None:
    _network(to)
    to.add_argument(
        "--output", type=Path, default=Path("hnet-eval.json"), help="the file of the figures"
    )


def _plot(to: argparse.ArgumentParser) -> None:
    _network(to)
    to.add_argument("--log", type=Path, help="metrics.csv of a run, for the curve of training")
    to.add_argument(
        "--output", type=Path, default=Path("hnet-plots"), help="the folder of the pictures"
    )


def _tune(to: argparse.ArgumentParser) -> None:
    _problems(to)
    _seed_option(to)
    options = Recipe()
    to.add_argument("--trials", type=_positive, default=16, help="how many networks to train")
    to.add_argument("--workers", type=_positive, default=2, help="trials at a time")
    to.add_argument("--cpus", type=_positive, default=1, help="of each trial")
    to.add_argument("--epochs", type=_positive, default=10, help="of a trial, at most")
    to.add_argument("--max-time", type=duration, help="of a trial, as for train")
    to.add_argument(
        "--width", type=_list(_positive), default=(options.width,), help="tried, as 16,32,64"
    )
    to.add_argument(
        "--layers", type=_list(_positive), help="tried, as 3,6; by default as many as train takes"
    )
    to.add_argument(
        "--batch-size", type=_list(_positive), default=(128, 256, 512, 1024), help="tried"
    )
    to.add_argument(
        "--learning-rate",
        type=_list(_above_zero),
        default=(3e-4, 1e-2),
        help="LOW,HIGH: drawn from between them, log-uniformly",
    )
    to.add_argument(
        "--weight-decay", type=_list(_not_negative), default=(0.0, 1e-4, 1e-2), help="tried"
    )
    to.add_argument(
        "--address", help="of a Ray cluster, such as auto or HOST:6379; by default this machine"
    )
    to.add_argument(
        "--output",
        type=Path,
        default=Path("hnet-tune"),
        help="the folder of the results; one that all machines share if there is a cluster",
    )


def _add(to: argparse.ArgumentParser, option: str, default: Any, summary: str, **more: Any) -> None:
    """Add an option that is not there unless it is given; `default` is what its lack means."""
    to.add_argument(
        option, default=argparse.SUPPRESS, help=f"{summary} (default: {default})", **more
    )


def _problems(to: argparse.ArgumentParser) -> None:
    """Add the options of generated problems."""
    source, kinds = Source(), sorted(DISTANCES)
    _add(to, "--max-len", "2, or that of a file", "rows and columns", type=_positive)
    summary = "for each angle between neighbouring directions, how many have 0, 1, ... pairs"
    _add(to, "--samples", source.samples, summary, type=_positive)
    _add(to, "--distance", source.distance, "of directions", choices=kinds)
    summary = "what stands for objects that are not there: values as published, a mask, or either"
    _add(to, "--missing", "published, or that of a file", summary, choices=MISSING)


def _seed_option(to: argparse.ArgumentParser, default: int = 0) -> None:
    to.add_argument("--seed", type=_seed, default=default, help="of all that is random")


def _recipe(to: argparse.ArgumentParser) -> None:
    """Add the options of training."""
    recipe = Recipe()
    for option, kind, summary in (
        ("--width", _positive, "channels of a pair in the network"),
        ("--batch-size", _positive, "problems in a step"),
        ("--learning-rate", _above_zero, "of AdamW"),
        ("--weight-decay", _not_negative, "of AdamW"),
        ("--warmup", _not_negative_int, "steps until the learning rate is reached"),
        ("--clip", _not_negative, "the norm of the gradient at most; 0: no limit"),
        ("--epochs", _positive, "at most"),
        ("--patience", _positive, "stop after so many epochs without a better weighted F-score"),
        ("--seed", _seed, "of all that is random"),
    ):
        default = getattr(recipe, option[2:].replace("-", "_"))
        _add(to, option, default, summary, type=kind)
    _add(to, "--layers", "1.5 per row, 3 at least", "of the network", type=_positive)
    summary = "of the learning rate, over --epochs or --max-time, whichever passes faster"
    _add(to, "--schedule", recipe.schedule, summary, choices=SCHEDULES)
    _add(to, "--max-time", "no limit", "stop after 90, 10:00 or 1:30:00", type=duration)


def _network(to: argparse.ArgumentParser) -> None:
    """Add the options of a trained network and what it is tried on."""
    which = to.add_mutually_exclusive_group(required=True)
    which.add_argument("--weights", type=Path, help="a file that train has written")
    which.add_argument(
        "--pretrained", type=_positive, metavar="MAX_LEN", help="weights that the package holds"
    )
    _problems(to)
    _seed_option(to, 1000)  # nobody trains with it by default
    _add(to, "--data", "generated problems", "a file of problems to try it on", type=_path)


def duration(text: str) -> float:
    """Return the seconds of `text`: seconds, minutes:seconds or hours:minutes:seconds."""
    parts = text.split(":")
    try:
        if len(parts) > 3:
            raise ValueError
        numbers = [float(part) for part in parts]
    except ValueError as error:
        message = f"{text!r} is no time; expected 90, 10:00 or 1:30:00"
        raise argparse.ArgumentTypeError(message) from error
    seconds = sum(number * 60**k for k, number in enumerate(reversed(numbers)))
    if not (0 < seconds < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected more than 0 seconds")
    return seconds


def _path(text: str) -> str:
    return str(Path(text).absolute())  # a run can be resumed from elsewhere


def _number(text: str, kind: type, holds: Callable[[float], bool], expected: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not holds(value):
        raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}")
    return value


def _positive(text: str) -> int:
    return int(_number(text, int, lambda x: x > 0, "a positive integer"))


def _not_negative_int(text: str) -> int:
    return int(_number(text, int, lambda x: x >= 0, "an integer, 0 or more"))


def _seed(text: str) -> int:
    return int(_number(text, int, lambda x: 0 <= x < 2**32, "an integer from 0 to 2**32 - 1"))


def _above_zero(text: str) -> float:
    return _number(text, float, lambda x: 0 < x < math.inf, "a number above 0")


def _not_negative(text: str) -> float:
    return _number(text, float, lambda x: 0 <= x < math.inf, "a number, 0 or more")


def _list(kind: Callable[[str], float]) -> Callable[[str], tuple[float, ...]]:
    def numbers(text: str) -> tuple[float, ...]:
        return tuple(kind(part) for part in text.split(","))

    return numbers
