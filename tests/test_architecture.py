"""The arrows between packages, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lsshell

ROOT = Path(lsshell.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
UI = ("prompt_toolkit", "plotext", "matplotlib", "rich", "cyclopts", "textual")


def layer(file):
    first = file.relative_to(ROOT).parts[0]
    return first if first in ("engine", "sessions", "figures") else "shell"


def imported(file):
    """Every module that a file imports anywhere, type-checking blocks too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


# What is in lsshell itself, and not in one of the packages below it.
SHELL = sorted(
    {f"lsshell.{f.relative_to(ROOT).with_suffix('').parts[0]}" for f in FILES}
    - {"lsshell.engine", "lsshell.sessions", "lsshell.figures", "lsshell.__init__"}
)
FORBIDDEN = {
    "engine": ("lsshell.sessions", "lsshell.figures", *SHELL, *UI),
    "figures": ("lsshell.sessions", "lsshell.engine", *SHELL, "torch"),
    "sessions": (*SHELL, "prompt_toolkit", "plotext", "textual"),
    "shell": (),
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_go_one_way(file):
    for name in imported(file):
        for banned in FORBIDDEN[layer(file)]:
            assert not (name == banned or name.startswith(f"{banned}.")), name


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_names_of_files_say_what_is_in_them(file):
    assert file.stem not in ("utils", "helpers", "manager", "misc", "common")


def modules_after(code):
    """What is in sys.modules of a fresh interpreter after this code."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "sklearn", "matplotlib", "plotext", "mlxtend", "pandas", "scipy"}


@pytest.mark.parametrize(
    "code",
    [
        "import lsshell.cli",
        "import lsshell.repl",
        "from lsshell.sessions.session import Session; Session()",
        "from lsshell.sessions.commands import VOCABULARY; VOCABULARY.help('walk')",
        "import lsshell.engine",
    ],
)
def test_nothing_heavy_stands_before_the_first_prompt(code):
    assert not modules_after(code) & HEAVY


def test_nothing_but_textual_stands_before_the_first_frame():
    found = modules_after("import lsshell.entry, lsshell.app, lsshell.screens.welcome")
    assert not found & (HEAVY | {"cyclopts", "prompt_toolkit", "textual_fspicker", "numpy"})


def test_the_engine_needs_no_user_interface():
    assert not modules_after("import lsshell.engine.engine") & set(UI)
