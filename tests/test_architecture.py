"""The shape of the project: who may import whom, which rooms know devices, what is documented.

The rules read syntax trees, so they hold for imports inside functions too; only imports under
`if TYPE_CHECKING:` are free. Each rule is tested on a small project in which it is broken.
`python tests/test_architecture.py` lists the files by length.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("minigrad", "minigrad_nn")
LINES_WANTED, LINES_ALLOWED = 400, 600

# A room may import rooms of its own floor and of the floors below it.
FLOORS = [
    {
        "minigrad.core",
        "minigrad.effects",
        "minigrad.errors",
        "minigrad.observing",
        "minigrad.plans",
        "minigrad.recording",
    },
    {
        "minigrad.backend",
        "minigrad.convert",
        "minigrad.cuda",
        "minigrad.dtypes",
        "minigrad.memory",
        "minigrad.noting",
        "minigrad.random",
        "minigrad.threads",
    },
    {"minigrad.ops"},
    {"minigrad.nodes", "minigrad.operators"},
    {"minigrad.scalar", "minigrad.tensor"},
    {
        "minigrad.creation",
        "minigrad.replay",
        "minigrad.transforms",
        "minigrad.check",
        "minigrad.testing",
        "minigrad.draw",
        "minigrad.study",
    },
    {"minigrad"},
    {"minigrad_nn.folders"},
    {"minigrad_nn.kernels", "minigrad_nn.data"},
    {"minigrad_nn.functional"},
    {
        "minigrad_nn.chaining",
        "minigrad_nn.module",
        "minigrad_nn.layers",
        "minigrad_nn.init",
        "minigrad_nn.optim",
        "minigrad_nn.schedule",
        "minigrad_nn.metrics",
    },
    {"minigrad_nn.ensemble", "minigrad_nn.models"},
    {
        "minigrad_nn.train",
        "minigrad_nn.inspect",
        "minigrad_nn.io",
        "minigrad_nn.transfer",
        "minigrad_nn.cli",
    },
    {"minigrad_nn"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Rooms that work on arrays, and what they may take from the engine: nothing that knows a graph.
ARRAY_ROOMS = {"minigrad_nn.kernels", "minigrad_nn.data"}
ARRAY_ENGINE = {
    "minigrad.backend",
    "minigrad.memory",
    "minigrad.noting",
    "minigrad.threads",
    "minigrad.dtypes",
    "minigrad.random",
}
# The scalar chain rule needs no arrays, and the data needs no compiler.
FORBIDDEN_LIBRARIES = {
    "minigrad.core": {"numpy", "numba"},
    "minigrad.observing": {"numpy"},
    "minigrad.recording": {"numpy"},
    "minigrad_nn.data": {"numba"},
    "minigrad": {"numba", "rich", "safetensors", "torch"},
    "minigrad_nn": {"torch", "tensorflow", "jax"},
}
DEVICE_ROOMS = ("minigrad/backend.py", "minigrad_nn/kernels/cuda/")


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Path relative to `root`, and syntax tree, of each file of the packages."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(module: str) -> str:
    """The package's room that a module stands in: its first two names."""
    return ".".join(module.split(".")[:2])


def is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(root: Path, path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that a file imports, type-checking imports left out."""
    package = module_name(path).split(".")
    if not path.endswith("__init__.py"):
        package = package[:-1]

    def visit(node: ast.AST) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if is_module(root, full) else base
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(tree)


def import_violations(root: Path) -> list[str]:
    """Imports against the direction, rooms without a floor, and libraries in the wrong room."""
    found = []
    for path, tree in sources(root):
        here = room_of(module_name(path))
        if here not in FLOOR_OF:
            found.append(f"{path}: {here} has no floor: give it one in FLOORS")
            continue
        for line, name in dict.fromkeys(imports(root, path, tree)):
            library = name.split(".")[0]
            if library not in PACKAGES:
                if library in FORBIDDEN_LIBRARIES.get(here, set()) | FORBIDDEN_LIBRARIES.get(
                    here.split(".")[0], set()
                ):
                    found.append(f"{path}:{line}: {here} must not import {library}")
                continue
            there = room_of(name)
            if there == here:
                continue
            if FLOOR_OF.get(there, 0) > FLOOR_OF[here]:
                found.append(f"{path}:{line}: {here} imports {there}, which stands above it")
            elif here in ARRAY_ROOMS and library == "minigrad" and there not in ARRAY_ENGINE:
                found.append(f"{path}:{line}: {here} sees arrays only, but imports {there}")
    return found


def names_device(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr != "startswith":
            return False
        parts = node.args
    else:
        return isinstance(node, ast.Attribute) and node.attr == "is_cuda"
    return any(
        isinstance(part, ast.Constant)
        and isinstance(part.value, str)
        and part.value.partition(":")[0] in ("cuda", "cpu", "gpu")
        for part in parts
    )


def device_violations(root: Path) -> list[str]:
    """Code that asks which device it runs on, outside the rooms made for that."""
    return [
        f"{path}:{node.lineno}: asks for a device; let minigrad.backend choose"
        for path, tree in sources(root)
        if not path.startswith(DEVICE_ROOMS)
        for node in ast.walk(tree)
        if names_device(node)
    ]


def docstring_violations(root: Path) -> list[str]:
    """Modules, public functions, classes and methods without a docstring.

    A method may inherit the docstring of the method that it overrides.
    """
    trees = list(sources(root))
    classes = {
        node.name: node for _, tree in trees for node in tree.body if isinstance(node, ast.ClassDef)
    }

    def inherits(owner: ast.ClassDef, method: str) -> bool:
        for base in owner.bases:
            parent = classes.get(ast.unparse(base).split(".")[-1].split("[")[0])
            if parent is None or parent is owner:
                continue
            for child in parent.body:
                if isinstance(child, ast.FunctionDef) and child.name == method:
                    if ast.get_docstring(child):
                        return True
            if inherits(parent, method):
                return True
        return False

    def exempt(node: ast.AST) -> bool:
        if node.name.startswith("_"):
            return True
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        return any(mark.endswith(("overload", ".setter", ".deleter")) for mark in marks)

    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = []
    for path, tree in trees:
        if not ast.get_docstring(tree):
            found.append(f"{path}:1: the file does not say what it is for")
        for node in tree.body:
            if not isinstance(node, kinds) or exempt(node):
                continue
            if not ast.get_docstring(node):
                found.append(f"{path}:{node.lineno}: {node.name} has no docstring")
            for child in node.body if isinstance(node, ast.ClassDef) else []:
                if not isinstance(child, kinds) or exempt(child) or ast.get_docstring(child):
                    continue
                if not inherits(node, child.name):
                    name = f"{node.name}.{child.name}"
                    found.append(f"{path}:{child.lineno}: {name} has no docstring")
    return found


def file_lengths(root: Path) -> list[tuple[int, str]]:
    """Lines and path of each file of the packages, longest first."""
    paths = [path for path, _ in sources(root)]
    return sorted(((len((root / p).read_text().splitlines()), p) for p in paths), reverse=True)


def length_violations(root: Path) -> list[str]:
    """Files that have grown into two rooms."""
    return [
        f"{path}: {lines} lines; {LINES_WANTED} are wanted, {LINES_ALLOWED} allowed"
        for lines, path in file_lengths(root)
        if lines > LINES_ALLOWED
    ]


RULES = [import_violations, device_violations, docstring_violations, length_violations]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_project_keeps_the_rule(rule):
    assert rule(ROOT) == []


def test_rules_see_the_packages():
    seen = {path.split("/")[0] for path, _ in sources(ROOT)}
    assert seen == set(PACKAGES)


CLEAN = {
    "minigrad/__init__.py": '"""Top."""\nfrom .tensor import Tensor\n',
    "minigrad/core.py": '"""Core."""\nimport math\n',
    "minigrad/backend.py": '"""Backend."""\nimport numpy\nchosen = "cuda" == "cpu"\n',
    "minigrad/ops/__init__.py": '"""Ops."""\nfrom .. import core\nfrom . import shape\n',
    "minigrad/ops/shape.py": '"""Shape."""\nfrom ..backend import chosen\n',
    "minigrad/tensor.py": '"""Tensor."""\nfrom . import ops\n\n\nclass Tensor:\n    """T."""\n',
    "minigrad_nn/__init__.py": '"""Top."""\n',
    "minigrad_nn/kernels/__init__.py": '"""Kernels."""\nfrom minigrad import backend\n',
    "minigrad_nn/functional.py": '"""F."""\nimport minigrad\nfrom .kernels import backend\n',
}
TYPED = '"""Core."""\nimport typing\nif typing.TYPE_CHECKING:\n    from .tensor import Tensor\n'
INHERITED = (
    '"""T."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\n'
    'class B(A):\n    """B."""\n    def f(self):\n        pass\n'
)
BROKEN = [
    (import_violations, "minigrad/core.py", "from .tensor import Tensor", "stands above"),
    (import_violations, "minigrad/core.py", "def f():\n    import minigrad", "stands above"),
    (import_violations, "minigrad/core.py", "import numpy as np", "must not import numpy"),
    (import_violations, "minigrad/ops/shape.py", "from ..tensor import x", "stands above"),
    (import_violations, "minigrad/tensor.py", "import minigrad_nn.kernels", "stands above"),
    (import_violations, "minigrad/tensor.py", "from numba import njit", "must not import numba"),
    (import_violations, "minigrad/helpers.py", "x = 1", "no floor"),
    (import_violations, "minigrad_nn/kernels/a.py", "import minigrad", "arrays only"),
    (import_violations, "minigrad_nn/kernels/a.py", "from minigrad import Tensor", "arrays only"),
    (import_violations, "minigrad_nn/data/a.py", "from minigrad.tensor import t", "arrays only"),
    (import_violations, "minigrad_nn/kernels/a.py", "from ..functional import f", "stands above"),
    (device_violations, "minigrad_nn/functional.py", 'if x.device == "cuda": y = 1', "device"),
    (device_violations, "minigrad/tensor.py", 'a = x.device.startswith("cuda:0")', "device"),
    (device_violations, "minigrad/tensor.py", "a = x.is_cuda", "device"),
    (docstring_violations, "minigrad/tensor.py", "def f():\n    pass", "f has no docstring"),
    (docstring_violations, "minigrad/tensor.py", "class A:\n    pass", "A has no docstring"),
    (
        docstring_violations,
        "minigrad/tensor.py",
        'class A:\n    """A."""\n    def f(self):\n        pass',
        "A.f has no docstring",
    ),
    (length_violations, "minigrad/tensor.py", "\n" * LINES_ALLOWED, "lines"),
]


def plant(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize(
    "extra",
    [{}, {"minigrad/core.py": TYPED}, {"minigrad/tensor.py": INHERITED}],
    ids=["plain", "type-checking import", "inherited docstring"],
)
def test_clean_project_passes(tmp_path, extra):
    root = plant(tmp_path, CLEAN | extra)
    assert [found for rule in RULES for found in rule(root)] == []


@pytest.mark.parametrize("rule, path, line, message", BROKEN)
def test_planted_violation_is_found(tmp_path, rule, path, line, message):
    root = plant(tmp_path, CLEAN)
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((file.read_text() if file.exists() else '"""File."""\n') + line + "\n")
    found = rule(root)
    assert len(found) == 1 and path in found[0] and message in found[0]


def test_a_file_that_does_not_say_what_it_is_for_is_found(tmp_path):
    root = plant(tmp_path, CLEAN | {"minigrad/core.py": "import math\n"})
    (found,) = docstring_violations(root)
    assert found == "minigrad/core.py:1: the file does not say what it is for"


if __name__ == "__main__":
    rows = file_lengths(ROOT)
    for count, name in rows:
        print(f"{count:5d}{' *' if count > LINES_WANTED else '  '} {name}")
    print(f"{sum(count for count, _ in rows):5d}   in {len(rows)} files; * over {LINES_WANTED}")
    sys.exit(0)
