"""The house rules that can be held by reading the source: who may import whom, and what may be named where."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
SOURCES = sorted([*TOP.glob("minikern/**/*.py"), *TOP.glob("arch/**/*.py")])

# The machine itself. What is not listed (command line, public API, observers, debugger) looks at it from outside.
KERNEL = {"arch", "engine", "fs", "host", "ipc", "kernel", "mm", "net"}
GENERIC = KERNEL - {"arch", "engine"}  # where no architecture may be named

ARCHITECTURE = re.compile(
    r"UC_(X86|ARM64)_|x86[-_]64|amd64|aarch64|arm64|\b([re](ax|bx|cx|dx|si|di|bp|sp|ip)|r8|r1[0-5]|x30|xzr|fs_base|gs_base)\b",
    re.IGNORECASE,
)


def package_of(path: Path) -> str:
    """`kernel` for minikern/kernel/exit.py, `arch` for minikern/arch.py and for everything below arch/."""
    parts = path.relative_to(TOP).parts
    return "arch" if parts[0] == "arch" else parts[1].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of every import, those for type checkers only included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def code_words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Identifiers and string literals with their lines; docstrings and comments are prose and left out."""
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            docstrings.add(id(node.body[0].value))  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in docstrings:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield node.lineno, text


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(), str(path)) for path in SOURCES}


def test_imports_point_one_way(trees: dict[Path, ast.Module]) -> None:
    wrong = []
    for path, tree in trees.items():
        package = package_of(path)
        if package not in KERNEL:
            continue
        own = path.relative_to(TOP / "arch").parts[0] if path.is_relative_to(TOP / "arch") else None
        for name in imports(tree):
            root, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if root.startswith("minikern_") and root != own:
                wrong.append(f"{path}: {name}: an architecture is found by its entry point")
            elif root == "minikern" and target not in KERNEL:
                wrong.append(f"{path}: {name}: the kernel knows nothing of {target}")
            elif root == "minikern" and package == "engine" and target != "engine":
                wrong.append(f"{path}: {name}: the engine knows nothing of the kernel")
    assert not wrong, "\n".join(wrong)


def test_architectures_are_named_only_in_their_packages(trees: dict[Path, ast.Module]) -> None:
    wrong = [
        f"{path}:{line}: {word!r}"
        for path, tree in trees.items()
        if package_of(path) in GENERIC
        for line, word in code_words(tree)
        if ARCHITECTURE.search(word)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_system_call_is_defined_once(trees: dict[Path, ast.Module]) -> None:
    places = defaultdict(list)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("sys_"):
                owner = path.relative_to(TOP / "arch").parts[0] if path.is_relative_to(TOP / "arch") else "generic"
                places[owner, node.name].append(f"{path}:{node.lineno}")
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice


def test_no_state_in_modules(trees: dict[Path, ast.Module]) -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
    ]
    assert not wrong, "all state hangs from the Kernel object"


def test_no_notes_to_self() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    sources = [*SOURCES, *TOP.glob("userland/**/*.[ch]")]
    wrong = [f"{path}:{n}" for path in sources for n, line in enumerate(path.open(), 1) if marks.search(line)]
    assert not wrong, "do it, or put it into docs/roadmap.md"
