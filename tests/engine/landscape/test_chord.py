"""Heights over the chord."""

from lsshell.engine.landscape.chord import over_chord


def test_heights_are_exactly_0_at_both_ends_and_where_nothing_changes():
    t, values = (0.0, 0.25, 1.0), (0.2, 1.3, 0.9)
    assert values[0] + (values[-1] - values[0]) != values[-1]  # rounding there would be a barrier
    above = over_chord(t, values)
    assert (above[0], above[-1]) == (0.0, 0.0)
    assert abs(above[1] - (1.3 - (0.75 * 0.2 + 0.25 * 0.9))) < 1e-15
    assert over_chord((0.0, 0.1, 1.0), (0.7, 0.7, 0.7)) == [0.0, 0.0, 0.0]
