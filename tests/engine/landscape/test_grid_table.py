"""Grids read back from the table of a slice."""

import numpy as np
import pytest

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.grid_table import read_grid


def write(tmp_path, text):
    file = tmp_path / "s.csv"
    file.write_text(text)
    return file


def test_rows_in_any_order_make_the_grid(tmp_path):
    rows = [(a, b, 10 * a + b) for a in (-1.0, 0.0, 0.5) for b in (0.0, 2.0)]
    order = np.random.default_rng(0).permutation(len(rows))
    lines = [",".join(map(str, rows[k])) for k in order]
    found = read_grid(write(tmp_path, "a,b,train_loss\n" + "\n".join(lines)), "train_loss")
    assert found.axes == ((-1.0, 0.0, 0.5), (0.0, 2.0))
    assert found.values.tolist() == [[-10.0, -8.0], [0.0, 2.0], [5.0, 7.0]]


def test_a_line_has_one_axis(tmp_path):
    found = read_grid(write(tmp_path, "a,train_loss,test_loss\n1,2,3\n0,5,nan\n"), "test_loss")
    assert found.axes == ((0.0, 1.0),)
    assert np.isnan(found.values[0])
    assert found.values[1] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column a"),
        ("x,y\n1,2\n", "no column a"),
        ("a,b,test_loss\n1,2,3\n", "no column train_loss; there are test_loss"),
        ("a,train_loss\n", "no rows"),
        ("a,train_loss\n1,x\n", "s.csv:2: not a number"),
        ("a,train_loss\n1\n", "s.csv:2: not a number"),
        ("a,train_loss\nnan,1\n", "s.csv:2: a coefficient that is not finite"),
        ("a,train_loss\n1,2\n1,3\n", "s.csv:3: .* twice"),
        ("a,b,train_loss\n0,0,1\n0,1,2\n1,0,3\n", "not a whole grid: 3 rows for 2 × 2"),
    ],
)
def test_what_is_no_grid_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(EngineError, match=message):
        read_grid(write(tmp_path, text), "train_loss")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(EngineError, match="no file"):
        read_grid(tmp_path / "none.csv", "train_loss")
    with pytest.raises(EngineError, match="cannot be read"):
        read_grid(tmp_path, "train_loss")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a,b\x00")
    with pytest.raises(EngineError, match="not a table"):
        read_grid(tmp_path / "b.csv", "train_loss")
