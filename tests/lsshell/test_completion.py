"""Completion: `complete(line up to the cursor)` against what can be said next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lsshell.completion import complete
from lsshell.engine.vocabulary import ACTIVATIONS, DATA_SETS, METHODS, NETWORKS, REGULARIZERS
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.language import Line, split_words
from lsshell.sessions.session import Session


def offered(text: str, session: Session | None = None) -> list[str]:
    return [word for word, _ in complete(text, session)]


def accepted(text: str) -> list[str]:
    """The whole line after each completion offered is taken."""
    return [text[: len(text) - length] + word for word, length in complete(text)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with models/net.pt, models/old/, a name with a blank, a hidden file."""
    (tmp_path / "models" / "old").mkdir(parents=True)
    (tmp_path / "models" / "net.pt").touch()
    (tmp_path / "my net.pt").touch()
    (tmp_path / ".hidden.pt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_empty_line_offers_every_command() -> None:
    assert offered("") == list(VOCABULARY.commands)
    assert offered("  ") == list(VOCABULARY.commands)


def test_the_beginning_of_a_command_offers_those_that_begin_so() -> None:
    assert offered("s") == [c for c in VOCABULARY.commands if c.startswith("s")]
    assert offered("wal") == ["walk"]
    assert offered("xyz") == []


def test_help_offers_commands() -> None:
    assert offered("help ") == list(VOCABULARY.commands)
    assert offered("help wal") == ["walk"]


def test_a_completion_replaces_the_word_at_the_cursor_only() -> None:
    assert accepted("walk --steps 5 --method gr") == ["walk --steps 5 --method gradient"]


def test_a_dash_offers_the_options_not_yet_given() -> None:
    first = offered("walk --")
    assert {"--steps", "--method", "--until", "--until-angle", "--ascend"} <= set(first)
    assert set(first) - set(offered("walk --steps 5 --")) == {"--steps"}
    assert offered("walk --rate-mi") == ["--rate-min"]


def test_an_option_after_a_flag_is_offered() -> None:
    assert offered("walk --ascend --st") == ["--steps"]


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("walk --method ", METHODS),
        ("model mlp 4-3 --activation ", ACTIVATIONS),
        ("dtype ", ("float32", "float64")),
        ("data iris --task ", ("classification", "regression")),
        ("plot loss --colour ", ("step", "test-loss")),
        ("compare ", ("weight-decay", "branches")),
        ("path ", ("list", "points", "convergence")),
        ("reg ", REGULARIZERS),
        ("reg l2 ", ("on", "off")),
        ("model ", NETWORKS),
        ("reg spectral on --form ", ("log", "square")),
    ],
)
def test_choices_are_offered(line: str, choices: tuple[str, ...]) -> None:
    assert offered(line) == list(choices)


def test_until_offers_each_regulariser_with_its_equals_sign() -> None:
    assert offered("walk --until ") == [f"{name}=" for name in REGULARIZERS]
    assert offered("walk --until l2-") == ["l2-weights="]


def test_a_word_that_is_complete_and_begins_another_is_offered_with_it() -> None:
    assert offered("reg l2") == ["l2", "l2-weights"]
    assert offered("reg distance") == []


def test_an_option_that_takes_a_number_offers_nothing() -> None:
    assert offered("walk --steps ") == []


def test_data_offers_sets_and_files(files: Path) -> None:
    assert offered("data ") == [*DATA_SETS, "models/", "my\\ net.pt"]


def test_files_and_folders_with_a_slash_are_offered_along_a_path(files: Path) -> None:
    assert offered("load mod") == ["models/"]
    assert offered("load models/") == ["models/net.pt", "models/old/"]
    assert offered("load ./models/n") == ["./models/net.pt"]
    assert offered(f"load {files}/models/n") == [f"{files}/models/net.pt"]
    assert offered("plot loss --out mo") == ["models/"]
    assert offered("load models/nosuch/") == []


def test_hidden_files_are_offered_once_a_dot_is_typed(files: Path) -> None:
    assert ".hidden.pt" not in offered("load ")
    assert offered("load .h") == [".hidden.pt"]


@pytest.mark.parametrize("line", ["load my", "load my\\ n", 'load "my', 'load "my n', "load 'my n"])
def test_a_file_with_a_blank_is_offered_so_that_the_line_reads_as_that_file(
    line: str, files: Path
) -> None:
    (taken,) = accepted(line)
    assert [word.text for word in split_words(taken, {})] == ["load", "my net.pt"]


def test_an_odd_name_of_a_file_reads_back_as_itself(files: Path) -> None:
    name = """o'd "d" ${x} \\ #1"""
    (files / name).touch()
    for quote in ("", "'", '"'):
        (taken,) = accepted(f"load {quote}o")
        assert [word.text for word in split_words(taken, {})] == ["load", name]


def test_the_home_folder_is_followed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(files))
    assert offered("load ~/mod") == ["~/models/"]


def test_the_home_of_nobody_offers_nothing() -> None:
    assert offered("load ~nobody-has-this-name/") == []


def test_a_comment_offers_nothing() -> None:
    assert offered("walk # --") == []


def test_a_variable_that_is_not_known_offers_nothing() -> None:
    assert offered("load ${folder}/") == []


def test_a_variable_is_filled_in_when_a_path_goes_through_it(files: Path) -> None:
    session = Session(record=False, variables={"folder": "models"})
    assert offered("load ${folder}/n", session) == ["models/net.pt"]


def test_goto_offers_places_and_the_branches_walked() -> None:
    session = Session(record=False)
    assert offered("goto ", session) == ["start", "end", "best"]
    for text in ("data iris", "model mlp 4-3", "level", "branch uphill", "level"):
        outcome = session.execute(Line("test", 1, text))
        assert outcome is not None
        assert outcome.ok
    assert offered("goto ", session) == ["start", "end", "best", "main", "uphill"]
    assert offered("goto up", session) == ["uphill"]
    assert offered("bridge ma", session) == ["main"]
    assert offered("bridge main up", session) == ["uphill"]


def test_completing_imports_neither_torch_nor_scikit_learn_nor_matplotlib() -> None:
    program = (
        "import sys, lsshell.repl\n"
        "from lsshell.completion import complete\n"
        "for line in ('', 'walk --', 'walk --until ', 'reg ', 'data ', 'plot ', 'goto '):\n"
        "    assert list(complete(line)), line\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    )
    imported = set(found.stdout.split())
    assert "lsshell" in imported
    assert imported.isdisjoint({"torch", "sklearn", "matplotlib", "pandas", "mlxtend", "plotext"})
