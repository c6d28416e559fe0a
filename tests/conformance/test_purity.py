"""What `pyproject.toml` lists as pure or sans-I/O stays so in what needs no import; `make lint` sees the imports."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILTINS = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}
METHODS = {"now", "utcnow", "today", "generate_private_key", "random_serial_number"}
"""The clock and randomness, by their names in the libraries that pure modules may import."""


def pure() -> list[Path]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["type"] == "forbidden")
    places = [ROOT / "src" / name.replace(".", "/") for name in contract["source_modules"]]
    return [
        path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    ]


def impure(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield f"{name} in line {node.lineno}"
            case ast.Call(func=ast.Attribute(attr=name)) if name in METHODS:
                yield f"{name} in line {node.lineno}"


@pytest.mark.parametrize("path", pure(), ids=lambda path: str(path.relative_to(ROOT / "src" / "peerauth")))
def test_a_pure_module_reads_no_clock_takes_no_chance_and_opens_nothing(path: Path) -> None:
    assert list(impure(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("line", ["open('a')", "print()", "datetime.now(UTC)", "ec.generate_private_key(CURVE)"])
def test_what_is_impure_is_seen(line: str) -> None:
    assert list(impure(ast.parse(f"def f():\n    {line}\n")))
