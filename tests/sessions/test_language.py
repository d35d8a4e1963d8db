"""Lines and words: quoting, comments, variables, places; results as scripts carry them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsshell.sessions.errors import CommandError
from lsshell.sessions.language import Failure, Line, assignment, split_words, spoken
from lsshell.sessions.results import flatten, read_results, result_lines
from lsshell.sessions.tables import table


def texts(line, **variables):
    return [w.text for w in split_words(line, variables)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   # only a comment", []),
        ("walk --steps 3", ["walk", "--steps", "3"]),
        ("walk  --steps\t3 # so many", ["walk", "--steps", "3"]),
        ("load 'my file.pt'", ["load", "my file.pt"]),
        ('load "my file.pt"', ["load", "my file.pt"]),
        (r"load my\ file.pt", ["load", "my file.pt"]),
        ('say "a \\"quoted\\" word"', ["say", 'a "quoted" word']),
        ("say a'b'c", ["say", "abc"]),
        ("say ''", ["say", ""]),
        ("say a#b", ["say", "a#b"]),
        ("say '#' # x", ["say", "#"]),
        ("say $x", ["say", "$x"]),
    ],
)
def test_words_are_split_as_a_shell_does(line, words):
    assert texts(line) == words


def test_variables_are_filled_in_and_never_split_again():
    assert texts("load ${file} --n ${n}5", file="a b.pt", n="1") == ["load", "a b.pt", "--n", "15"]
    assert texts('x "${file}!"', file="a b") == ["x", "a b!"]
    assert texts("x '${file}'", file="a b") == ["x", "${file}"]


def test_columns_count_from_one_where_each_word_starts():
    assert [w.column for w in split_words("  walk   'a b' c", {})] == [3, 10, 16]


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("load 'abc", 6, "never closed"),
        ('load "abc', 6, "never closed"),
        ("walk ${steps}", 6, "no variable steps"),
        ("walk --steps ${", 14, "a variable is written"),
    ],
)
def test_errors_know_their_column(line, column, message):
    with pytest.raises(CommandError, match=message) as e:
        split_words(line, {})
    assert e.value.column == column


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r"))))
def test_what_is_spoken_is_heard_again(words):
    import shlex

    line = shlex.join(["say", *words])
    assert texts(line) == ["say", *words]


def test_a_line_with_variables_is_spoken_with_them_filled_in():
    line = "load ${file}  # the start"
    assert spoken(line, split_words(line, {"file": "a b.pt"})) == "load 'a b.pt'"
    plain = "load x.pt  # the start"
    assert spoken(plain, split_words(plain, {})) == plain


def test_a_failure_shows_its_place():
    failure = Failure(Line("walk.lss", 12, "walk --stps 3"), 6, "walk", "unknown option --stps")
    assert failure.with_caret() == (
        "walk.lss:12:6: walk: unknown option --stps\n  walk --stps 3\n       ^"
    )


@pytest.mark.parametrize("text", ["x", "=3", "1x=3", "a b=3"])
def test_assignments_need_a_name(text):
    with pytest.raises(CommandError, match="NAME=VALUE"):
        assignment(text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True), VALUES, max_size=4))
def test_results_are_read_back_as_they_were_written(values):
    lines = result_lines(values)
    assert all("\n" not in line for line in lines)
    assert read_results(lines) == flatten(values)


def test_numbers_in_scripts_keep_every_bit():
    value = math.nextafter(0.1, 1)
    assert read_results(result_lines({"loss": value}))["loss"] == value


def test_columns_of_tables_line_up():
    lines = table(["", "a"], [["loss", "1.5"], ["angle", "10"]]).splitlines()
    assert lines == ["         a", "loss   1.5", "angle   10"]
