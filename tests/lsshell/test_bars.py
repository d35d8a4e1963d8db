"""Bars in terminals."""

from lsshell.figures.figure import Figure, Series
from lsshell.figures.text import draw_text


def bars(*heights):
    places = tuple(float(k) for k in range(len(heights)))
    names = tuple(f"name {k}" for k in range(len(heights)))
    return Figure("title", "", "value", (Series("v", places, heights, "bars"),), categories=names)


def test_bars_go_left_and_right_of_zero_as_long_as_their_values():
    text = draw_text(bars(1.0, -0.5, 0.25, 0.0), 80, 20, colour=False)
    lines = text.splitlines()
    assert len(lines) == 6
    assert {line.index("│") for line in lines[1:5]} == {lines[1].index("│")}
    sizes = [line.count("█") for line in lines[1:5]]
    assert abs(sizes[1] - sizes[0] / 2) <= 1
    assert abs(sizes[2] - sizes[0] / 4) <= 1
    assert sizes[3] == 0
    assert lines[2].index("█") < lines[2].index("│") < lines[1].index("█")
    assert [line.split()[-1] for line in lines[1:5]] == ["1", "-0.5", "0.25", "0"]


def test_bars_fit_the_room_there_is_and_the_rest_are_counted():
    text = draw_text(bars(*[0.1 * k for k in range(30)]), 60, 10, colour=False)
    lines = text.splitlines()
    assert len(lines) == 10
    assert "… and 23 more" in text
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in text
    assert "\x1b[94m" in draw_text(bars(1.0), 60, 10, colour=True)


def test_bars_without_a_value_are_left_out():
    assert "name 1" not in draw_text(bars(1.0, float("nan"), 2.0), 60, 10, colour=False)
