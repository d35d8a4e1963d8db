"""What is left of a walk: the line that goes on with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.journal import Entry
from lsshell.sessions.language import Line, split_words
from lsshell.sessions.remainder import one_step, rest_of_record, rest_of_walk, walk_line

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "--steps": st.integers(1, 999).map(str),
        "--method": st.sampled_from(["quasi-newton", "gradient", "paper"]),
        "--until": st.sampled_from(["l2=200", "l1=3.5"]),
        "--until-angle": st.sampled_from(["170", "179.5"]),
        "--until-plateau": st.sampled_from(["1e-4", "0.01"]),
        "--patience": st.integers(1, 9).map(str),
        "--seconds": st.integers(5, 99).map(str),
        "--record": st.integers(1, 9).map(str),
        "--measure": st.integers(1, 9).map(str),
        "--ascend": st.none(),
        "--memory": st.integers(1, 99).map(str),
    },
)


def line(options, equals):
    """A walk with these options, spelled `--name value` or `--name=value`."""
    words = ["walk"]
    for name, value in options.items():
        words += [name] if value is None else [f"{name}={value}"] if equals else [name, value]
    return " ".join(words)


def given_in(text):
    """The options of a walk, as the vocabulary reads them."""
    words = split_words(text, {})
    VOCABULARY.parse(words)
    found, k = {}, 1
    while k < len(words):
        name, equals, value = words[k].text.partition("=")
        alone = equals or name == "--ascend"
        found[name] = value or None if alone else words[k + 1].text
        k += 1 if alone else 2
    return found


@given(OPTIONS, st.booleans(), st.integers(1, 50), st.integers(1, 50))
def test_the_rest_is_the_same_walk_with_the_steps_that_are_left(options, equals, taken, left):
    text = line(options, equals)
    rest = rest_of_walk(text, {}, taken=taken, of=taken + left, seconds=0.0)
    assert given_in(rest) == options | {"--steps": str(left)}


@given(OPTIONS, st.booleans())
def test_one_step_is_in_the_manner_of_the_walk_and_ends_nowhere_else(options, equals):
    ends = ("--until", "--until-angle", "--until-plateau", "--patience", "--seconds", "--record",
            "--measure")  # fmt: skip
    manner = {name: value for name, value in options.items() if name not in ends}
    assert given_in(one_step(line(options, equals), {})) == manner | {"--steps": "1"}


def test_every_until_is_left_out_of_one_step():
    assert one_step("walk --until l2=3 --until=l1=4", {}) == "walk --steps 1"


def test_nothing_is_left_of_a_walk_that_took_all_its_steps():
    assert rest_of_walk("walk --steps 5", {}, taken=5, of=5, seconds=0.0) is None
    assert rest_of_walk("walk --steps 5", {}, taken=6, of=5, seconds=0.0) is None


def test_the_seconds_that_were_taken_are_taken_off():
    rest = rest_of_walk("walk --seconds 10", {}, taken=1, of=400, seconds=3.96)
    assert given_in(rest) == {"--steps": "399", "--seconds": "6.1"}
    assert rest_of_walk("walk --seconds 10", {}, taken=1, of=400, seconds=10.0) is None


def test_variables_are_filled_in_and_comments_left_out():
    text = "walk --steps ${n} --method ${how}  # as before"
    variables = {"n": "30", "how": "gradient"}
    rest = rest_of_walk(text, variables, taken=10, of=30, seconds=0.0)
    assert rest == "walk --method gradient --steps 20"


def test_a_walk_that_cannot_be_read_is_given_back_as_it_is():
    assert walk_line("walk --until 'l2=3", {"steps": "1"}, {}) == "walk --until 'l2=3"
    assert one_step("walk --steps ${gone}", {}) == "walk --steps ${gone}"


# -- from a record -----------------------------------------------------------------------------


def record(text, **results):
    return [Entry(Line("session.lss", 1, "reg l2 on"), {}), Entry(Line("x", 2, text), results)]


def default(method):
    return {"quasi-newton": 400, "gradient": 400, "paper": 10_000}[method]


@pytest.mark.parametrize("reason", ["interrupted", "paused", "killed"])
def test_a_session_that_ended_within_a_walk_goes_on_with_the_rest(reason):
    entries = record("walk --steps 30", steps=12, reason=reason)
    assert rest_of_record(entries, default) == "walk --steps 18"


def test_where_the_line_names_no_steps_the_method_does():
    entries = record("walk", steps=100, reason="killed")
    assert rest_of_record(entries, default) == "walk --steps 300"
    entries = record("walk --method paper", steps=100, reason="killed")
    assert rest_of_record(entries, default) == "walk --method paper --steps 9900"


def test_a_session_that_ended_otherwise_has_no_rest():
    assert rest_of_record([], default) is None
    assert (
        rest_of_record(record("walk --steps 9", steps=9, reason="9 steps taken"), default) is None
    )
    assert (
        rest_of_record(record("train --epochs 9", epochs=2, reason="interrupted"), default) is None
    )
    assert rest_of_record([Entry(Line("x", 1, "walk"), None)], default) is None
