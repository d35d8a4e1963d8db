"""Heat maps, in terminals and in files."""

import re

import pytest

from lsshell.figures.colours import scale_of
from lsshell.figures.figure import Figure, Series, Surface
from lsshell.figures.files import write_figure, write_panels
from lsshell.figures.text import draw_text

NAN = float("nan")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
AXIS = tuple(k / 10 for k in range(-10, 11))
BOWL = tuple(tuple(x * x + y * y for x in AXIS) for y in AXIS)


def figure(*series, **surface):
    given = {"x": AXIS, "y": AXIS, "z": BOWL, "label": "loss"} | surface
    return Figure("a bowl", "u", "v", series, surface=Surface(**given))


def body(drawn):
    """The characters of the cells, without frame, title and legend."""
    rows = [line[3:] for line in drawn.splitlines()[1:]]
    return rows[: next(i for i, line in enumerate(rows) if line.lstrip().startswith("-1 "))]


def test_low_values_lie_in_the_middle_of_a_bowl_and_high_ones_in_its_corners():
    rows = body(draw_text(figure(), 60, 25, colour=False))
    assert rows[len(rows) // 2][len(rows[0]) // 2] == " "
    assert rows[0][0] == rows[0][-1] == rows[-1][0] == rows[-1][-1] == "@"


def test_y_goes_up_and_x_to_the_right():
    slope = tuple(tuple(x + 2 * y for x in AXIS) for y in AXIS)
    rows = body(draw_text(figure(z=slope), 60, 25, colour=False))
    assert rows[0][-1] == "@"
    assert rows[-1][:2] == "  "
    signs = " .:-=+*%@"
    assert signs.index(rows[0][0]) > signs.index(rows[-1][-1])


def test_a_contour_is_a_ring_of_the_right_radius():
    rows = body(draw_text(figure(contours=(("L*", 0.25),)), 63, 32, colour=False))
    middle = rows[len(rows) // 2]
    crossed = [i for i, sign in enumerate(middle) if sign == "#"]
    width = len(middle)
    assert crossed[0] / width == pytest.approx(0.25, abs=0.03)
    assert crossed[-1] / width == pytest.approx(0.75, abs=0.03)
    assert "#" not in rows[0]


def test_points_and_marks_lie_where_their_coordinates_say():
    start = Series("start", (-1.0,), (1.0,), "mark")
    now = Series("now", (0.99,), (-0.99,), "mark")
    beyond = Series("end", (3.0,), (0.0,), "mark")
    drawn = draw_text(figure(start, now, beyond), 60, 25, colour=False)
    rows = body(drawn)
    assert rows[0][0] == "○"
    assert rows[-1][-1] == "◆"
    assert "□" not in "".join(rows)
    assert "○ start   ◆ now" in drawn


def test_colours_say_what_density_says_and_change_only_where_they_must():
    coloured = draw_text(figure(), 60, 25, colour=True)
    assert all(len(line) <= 60 for line in ESCAPE.sub("", coloured).splitlines())
    assert "48;2;68;1;84" in coloured or "38;2;68;1;84" in coloured  # the least value's colour
    flat = draw_text(figure(z=tuple((1.0,) * 21 for _ in AXIS)), 60, 25, colour=True)
    assert len(flat) < len(coloured) / 3


def test_what_is_no_number_is_blank():
    holes = tuple(tuple(NAN if x > 0 else 1.0 - x for x in AXIS) for _ in AXIS)
    rows = body(draw_text(figure(z=holes), 60, 25, colour=False))
    assert all(row[35:].strip() == "" for row in rows)
    assert any(row[:25].strip() for row in rows)


def test_categories_have_a_cell_each_with_their_names_and_words():
    cells = Figure(
        "phases", "width", "batch", (),
        surface=Surface(
            (0.0, 1.0, 2.0), (0.0, 1.0), ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "mc",
            x_ticks=("2", "8", "32"), y_ticks=("1024", "16"),
            labels=(("I", "II", "III"), ("IV-A", "IV-B", "V")),
        ),
    )  # fmt: skip
    drawn = draw_text(cells, 44, 14, colour=False)
    lines = drawn.splitlines()
    above = next(i for i, line in enumerate(lines) if "IV-A" in line)
    below = next(i for i, line in enumerate(lines) if "III" in line)
    assert above < below
    assert lines[above].lstrip().startswith("16")
    assert lines[below].lstrip().startswith("1024")
    names = next(line for line in lines if line.split() == ["2", "8", "32"])
    assert abs(names.index("8") - lines[above].index("IV-B")) <= 2


def test_a_diverging_scale_is_even_about_zero_and_a_logarithmic_one_needs_positive_values():
    diverging = scale_of(Surface((0.0, 1.0), (0.0,), ((-2.0, 6.0),), "mc", diverging=True))
    assert (diverging.low, diverging.high) == (-6.0, 6.0)
    assert diverging.place(0.0) == 0.5
    log = scale_of(Surface((0.0, 1.0), (0.0,), ((-1.0, 100.0),), "loss", log=True))
    assert log.place(-1.0) is None
    assert log.place(100.0) is not None
    spanned = scale_of(Surface((0.0, 1.0), (0.0,), ((1.0, 100.0),), "loss", log=True))
    assert spanned.place(10.0) == pytest.approx(0.5)


def test_a_small_pane_and_a_large_one_are_filled_and_not_overrun():
    for width, height in ((14, 5), (30, 8), (80, 24), (200, 50)):
        for bare in (False, True):
            drawn = draw_text(
                figure(contours=(("L*", 0.3),)), width, height, colour=True, bare=bare
            )
            lines = ESCAPE.sub("", drawn).splitlines()
            assert max(map(len, lines[: height - 3])) <= width
            assert len(lines) <= max(height, 8)


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # of what other tests left behind
@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf", ".txt"])
def test_surfaces_are_written_in_every_format(tmp_path, ending):
    file = tmp_path / f"bowl{ending}"
    walk = Series("walk", (0.0, 0.5), (0.5, 0.0))
    write_figure(figure(walk, log=True, contours=(("L*", 0.25), ("far", 99.0))), file)
    assert file.stat().st_size > 500
    if ending != ".txt":
        write_panels([figure(), figure(diverging=True), figure()], file)
        assert file.stat().st_size > 500


def test_axes_without_names_are_not_spoken_of():
    flat = Surface(AXIS, AXIS, BOWL, "accuracy")
    drawn = draw_text(Figure("", "", "", (), surface=flat), 60, 20, colour=False)
    assert "x:" not in drawn and "y:" not in drawn
    assert "accuracy 0 … 2" in drawn
    named = draw_text(Figure("", "", "v", (), surface=flat), 60, 20, colour=False)
    assert "  y: v" in named.splitlines() and "x:" not in named


@pytest.mark.parametrize("size", [(90, 20), (30, 40)])
def test_equal_axes_make_a_square_of_characters_twice_as_high_as_wide(size):
    square = Figure("", "x", "y", (), equal_axes=True, surface=figure().surface)
    rows = body(draw_text(square, *size, colour=False))
    assert abs(len(rows[0]) - 2 * len(rows)) <= 1


def phases(width, height, *, colour):
    cells = Surface(
        (0.0, 1.0, 2.0), (0.0, 1.0), ((0.0, 0.0, 1.0), (2.0, 1.0, 2.0)), "phase",
        x_ticks=("2", "8", "32"), y_ticks=("1024", "16"), z_ticks=("I", "IV-A", "IV-B"),
        labels=(("I", "I", "IV-A"), ("IV-B", "IV-A", "IV-B")),
    )  # fmt: skip
    return draw_text(Figure("", "w", "b", (), surface=cells), width, height, colour=colour)


def test_kinds_have_a_name_for_each_colour_and_no_numbers():
    assert "[ ] I   [=] IV-A   [@] IV-B" in phases(60, 20, colour=False)
    last = phases(60, 20, colour=True).splitlines()[-1]
    assert ESCAPE.sub("", last).split() == ["█", "I", "█", "IV-A", "█", "IV-B"]
    assert last.count("38;2;253;231;37") == 1  # IV-B's is the last of the scale


def test_words_that_have_no_room_are_left_out_and_not_cut():
    assert phases(60, 12, colour=False).count("IV-B") == 3  # with the legend's
    narrow = phases(15, 12, colour=False)
    assert narrow.count("IV-B") == 1
    assert "IV-\n" not in narrow and narrow.count("IV") == 2


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # of what other tests left behind
def test_kinds_and_a_legend_are_written_to_files(tmp_path):
    import matplotlib

    cells = Surface((0.0, 1.0), (0.0, 1.0), ((0.0, 1.0), (1.0, 0.0)), "phase", z_ticks=("I", "V"))
    now = Series("now", (0.5,), (0.5,), "mark")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        write_figure(Figure("", "w", "b", (now,), surface=cells), tmp_path / "cells.svg")
    text = (tmp_path / "cells.svg").read_text()
    assert ">I</text>" in text and ">V</text>" in text
    assert ">now</text>" in text and "fill: #595959" in text  # the ground of the legend
