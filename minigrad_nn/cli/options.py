"""The commands and their options.  Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

__all__ = ["add_commands"]

MODELS = ("lenet5",)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Give a parser the commands `train`, `draw`, `summary`, `doctor` and `warmup`."""
    parser.add_argument("--version", action="version", version=f"minigrad {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_train, _add_draw, _add_summary, _add_doctor, _add_warmup):
        add(commands)


def version() -> str:
    """The version that is installed, or "(not installed)" when run from a checkout."""
    try:
        return importlib.metadata.version("minigrad")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _late(module: str) -> Callable[[argparse.Namespace], int]:
    """A command's `run`, whose module is imported when it is called."""

    def run(given: argparse.Namespace) -> int:
        return int(importlib.import_module(f"{__package__}.{module}").run(given))

    return run


def _command(commands: Any, name: str, words: str, **more: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=words,
        description=f"{words[0].upper()}{words[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    parser.set_defaults(run=_late(name))
    return parser


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        "train a network, and leave a folder with what it learned",
        epilog="examples:\n"
        "  minigrad train lenet5\n"
        "  minigrad train lenet5 --data mnist --seed 1 --out runs/mnist-1\n"
        "  minigrad train lenet5 --resume runs/mnist-1",
    )
    parser.add_argument("model", choices=MODELS, help="what to train")
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="digits (default: the 1,797 embedded ones), mnist, a folder with IDX files, or an "
        ".npz file",
    )
    parser.add_argument("--epochs", type=_whole(1), metavar="N", help="of the whole training")
    parser.add_argument("--seed", type=_whole(0), metavar="N", help="default 0")
    parser.add_argument("--batch-size", type=_whole(1), metavar="N", help="samples a step")
    parser.add_argument("--lr", type=_positive, metavar="X", help="learning rate at the start")
    parser.add_argument(
        "--resume", metavar="PATH", help="go on from a checkpoint, or from the one in a run folder"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="run folder; default runs/MODEL-DATA-TIME, or the resumed one"
    )
    parser.add_argument(
        "--threads", type=_whole(1), metavar="N", help="processor threads; default: as fits"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1, ..."
    )


def _add_draw(commands: Any) -> None:
    parser = _command(
        commands,
        "draw",
        "draw the graph of an expression or a model, with values and gradients",
        epilog="examples:\n"
        '  minigrad draw "(x + y) * z" x=-2 y=5 z=-4 -o circuit.svg\n'
        '  minigrad draw "q = w*x + b; sigmoid(q)" w=2 x=-1 b=-3\n'
        "  minigrad draw lenet5 -o lenet5.svg\n\n"
        "An expression that begins with a minus stands after --, as the last: draw -o a.svg -- -x "
        "x=1",
    )
    parser.add_argument(
        "what", metavar="EXPRESSION|MODEL", help=f"a formula, or {', '.join(MODELS)}"
    )
    parser.add_argument("values", nargs="*", metavar="NAME=NUMBER", help="the formula's variables")
    parser.add_argument(
        "-o", "--out", metavar="PATH", help=".svg, .png, .html, .dot or .txt; else text is printed"
    )
    parser.add_argument("--title", help="a heading")
    parser.add_argument("--digits", type=_whole(1), default=4, metavar="N", help="significant ones")
    parser.add_argument(
        "--engine",
        choices=("auto", "dot", "wasm", "builtin"),
        default="auto",
        help="what places the parts",
    )
    parser.add_argument("--forward", action="store_true", help="values only, before backward()")


def _add_summary(commands: Any) -> None:
    parser = _command(
        commands,
        "summary",
        "list the layers of a network: shapes, parameters, multiply-adds, receptive fields, memory",
        epilog="examples:\n"
        "  minigrad summary lenet5 --input 1,28,28\n"
        "  minigrad summary resnet50 stride_on=1x1 --input 3,224,224 --depth 1\n"
        "  minigrad summary mobilenet_v1 --input 3,224,224 --batch 8 --backward",
    )
    parser.add_argument("model", metavar="MODEL", help="a network of minigrad_nn.models")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="such as classes=10")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        type=_shape,
        metavar="SHAPE",
        help="of one sample, channels first, such as 3,224,224; again for each further input",
    )
    parser.add_argument(
        "--batch", type=_whole(1), default=1, metavar="N", help="samples, 1 by default"
    )
    parser.add_argument(
        "--depth", type=_whole(0), metavar="N", help="how deep rows go; default: all"
    )
    parser.add_argument(
        "--dtype",
        action="append",
        choices=("float32", "float64", "int64"),
        help="of the inputs, one for each; int64 for a network that begins with an embedding",
    )
    parser.add_argument(
        "--layout",
        choices=("channels_first", "channels_last"),
        default="channels_first",
        help="how shapes are written",
    )
    parser.add_argument("--time", action="store_true", help="measure forward passes")
    parser.add_argument("--backward", action="store_true", help="measure backward passes too")
    parser.add_argument("--json", action="store_true", help="print data instead of a table")


def _add_doctor(commands: Any) -> None:
    _command(
        commands,
        "doctor",
        "say what is installed here, what is missing, and what that means",
    )


def _add_warmup(commands: Any) -> None:
    parser = _command(commands, "warmup", "compile all kernels now, so that no training waits")
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=("float32", "float64"),
        default=["float32"],
        help="element types (default: float32)",
    )


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number < 2**63:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least}")
        return number

    return parse


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape, such as 3,224,224")
    return shape


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number
