"""Lines and points in terminals."""

import pytest

from lsshell.figures.figure import Figure, Series
from lsshell.figures.text import draw_text
from lsshell.figures.ticks import log_ticks

AXIS = tuple(k / 20 for k in range(21))


def figure(*series, **more):
    return Figure("title", "x", "y", series, **more)


def frame(drawn):
    """What is within the axes."""
    return [line.split("┤" if "┤" in line else "│", 1)[1] for line in drawn.splitlines()
            if line.rstrip().endswith("│")]  # fmt: skip


def test_lines_that_coincide_are_all_seen_without_colours():
    same = tuple(0.5 for _ in AXIS)
    drawn = draw_text(figure(*(Series(n, AXIS, same) for n in "ABC")), 60, 12, colour=False)
    inside = "".join(frame(drawn))
    counts = [inside.count(letter) for letter in "abc"]
    assert min(counts) >= 12 and max(counts) - min(counts) <= 3
    assert "a A   b B   c C" in drawn


def test_a_letter_of_a_line_lies_on_it_also_between_its_points():
    rise, flat = Series("rise", (0.0, 1.0), (0.0, 1.0)), Series("flat", (0.0, 1.0), (1.0, 1.0))
    rows = frame(draw_text(figure(rise, flat), 60, 20, colour=False))
    found = [(r, row.index("a")) for r, row in enumerate(rows) if "a" in row]
    assert len(found) > 10  # not only at its ends
    assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)  # it rises
    assert all(abs(c / 50 - (1 - r / (len(rows) - 1))) < 0.15 for r, c in found)


def test_a_line_that_goes_back_and_one_that_is_short_keep_their_letters():
    back = Series("back", (0.0, 1.0, 0.5), (0.0, 1.0, 2.0))
    short = Series("short", (0.3001, 0.3002), (1.5, 1.5))
    inside = "".join(frame(draw_text(figure(back, short), 60, 12, colour=False)))
    assert "a" in inside and "b" in inside


@pytest.mark.parametrize("colour", [False, True])
def test_points_are_points_and_no_line_and_told_apart_from_one(colour):
    line, points = Series("line", (0.0, 1.0), (0.0, 0.0)), ((0.0, 0.5, 1.0), (1.0, 1.0, 1.0))
    drawn = draw_text(figure(line, Series("found", *points, "points")), 60, 12, colour=colour)
    top = next(line for line in drawn.splitlines() if "•" in line)
    assert top.count("•") == 3
    assert not set("⠉⠒⠤⣀a") & set(top)
    (legend,) = [line for line in drawn.splitlines() if "found" in line]
    assert "━" in legend and "•" in legend


def test_one_line_alone_is_drawn_as_one_beside_a_mark_too():
    now = Series("now", (0.5,), (0.25,), "mark")
    drawn = draw_text(figure(Series("loss", AXIS, AXIS), now), 60, 12, colour=False)
    assert "a" not in "".join(frame(drawn)) and "◆" in drawn


def test_a_logarithmic_axis_has_round_numbers_and_leaves_out_what_has_no_place_on_it():
    falling = Series("λ", (1.0, 10.0, 1000.0, 2000.0), (2e5, 1.0, 3e-9, 0.0))
    drawn = draw_text(figure(falling, x_log=True, y_log=True), 70, 24, colour=False)
    assert "1e+03" in drawn and "1e-08" in drawn and " 1┤" in drawn
    assert "0.0000" not in drawn and "2e+03" not in drawn


@pytest.mark.parametrize(
    ("ends", "most", "ticks"),
    [
        ((0.5, 2e3), 9, [1.0, 10.0, 100.0, 1000.0]),
        ((1e-9, 1e3), 5, [1e-9, 1e-6, 1e-3, 1.0, 1e3]),
        ((1e-3, 1.0), 9, [1e-3, 1e-2, 0.1, 1.0]),
        ((3e-4, 9e-4), 9, [5e-4]),
        ((5e-4, 1.1e-3), 9, [5e-4, 1e-3]),
        ((7.0, 7.0), 9, [7.0]),
    ],
)
def test_ticks_are_powers_of_ten_or_what_lies_between(ends, most, ticks):
    found = log_ticks(*ends, most)
    assert found == pytest.approx(ticks if len(ticks) > 1 else sorted(set(ends)))
