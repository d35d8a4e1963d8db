"""Pictures as cells: shapes, words, files, and files that are no pictures."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.glyphs import GLYPHS
from lsshell.engine.landscape.masks import Mask, picture_mask, shape_mask, text_mask
from lsshell.engine.vocabulary import SHAPES


def drawn(mask):
    return ["".join("#" if c > 0 else "." if c < 0 else " " for c in row) for row in mask.cells]


@pytest.mark.parametrize("size", [5, 12, 20, 51])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_cells_of_both_kinds_and_their_symmetry(shape, size):
    cells = shape_mask(shape, size).cells
    assert cells.shape == (size, size)
    assert set(np.unique(cells)) == {-1, 1}
    if shape != "checkerboard":
        assert np.array_equal(cells, cells[:, ::-1])


def test_a_heart_stands_upright():
    heart = drawn(shape_mask("heart", 11))
    assert heart[0] == "...#...#..."
    assert heart[10] == ".....#....."


def test_a_word_is_written_in_letters():
    assert drawn(text_mask("Lt")) == [
        ".............",
        ".#.....#####.",
        ".#.......#...",
        ".#.......#...",
        ".#.......#...",
        ".#.......#...",
        ".#.......#...",
        ".#####...#...",
        ".............",
    ]


def test_letters_are_enlarged_as_far_as_they_fit():
    assert text_mask("LS", 26).cells.shape == (18, 26)
    assert text_mask("LS", 25).cells.shape == (9, 13)
    assert text_mask("LONG WORD", 20).cells.shape == (9, 55)


def test_every_letter_is_another_one():
    assert len(set(GLYPHS.values())) == len(GLYPHS)
    assert all(len(g) == 5 and max(g) < 128 for g in GLYPHS.values())


def test_the_inside_of_regions_is_ignored_on_demand():
    cells = np.full((6, 6), -1, dtype=np.int8)
    cells[:, 3:] = 1
    assert drawn(Mask("half", cells).outline()) == ["  .#  "] * 6


def test_light_and_dark_can_change_places():
    heart = shape_mask("heart")
    assert np.array_equal(heart.inverted().cells, -heart.cells)


def test_a_picture_is_light_where_it_is_bright_or_transparent(tmp_path):
    pixels = np.array([[0, 127, 128, 255]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    assert drawn(picture_mask(tmp_path / "grey.png")) == ["..##"]
    clear = np.zeros((1, 2, 4), dtype=np.uint8)
    clear[0, 0, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert drawn(picture_mask(tmp_path / "clear.png")) == [".#"]


def test_a_picture_is_brought_to_the_size_asked_for(tmp_path):
    pixels = np.zeros((40, 80), dtype=np.uint8)
    pixels[:, 40:] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    assert drawn(picture_mask(tmp_path / "half.png", 4)) == ["..##", "..##"]
    assert picture_mask(tmp_path / "half.png").cells.shape == (25, 50)


def bomb(width, height):
    """A PNG that says it is this large, and holds next to nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.png", None, "there is no file"),
        ("text.png", b"not a picture", "no PNG or JPEG"),
        ("empty.png", b"", "no PNG or JPEG"),
        ("vast.png", bomb(60_000, 60_000), "no PNG or JPEG|too large"),
        ("large.png", bomb(8_000, 8_000), "too large"),
        ("cut.png", bomb(100, 100), "no PNG or JPEG"),
        ("code.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no PNG or JPEG"),
    ],
)
def test_files_that_are_no_picture_are_refused(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(EngineError, match=message):
        picture_mask(tmp_path / name)


def test_pictures_of_one_kind_unknown_shapes_letters_and_sizes_are_refused(tmp_path):
    Image.new("L", (9, 9), 255).save(tmp_path / "white.png")
    with pytest.raises(EngineError, match="all light at 9×9"):
        picture_mask(tmp_path / "white.png")
    with pytest.raises(EngineError, match="did you mean heart"):
        shape_mask("haert")
    with pytest.raises(EngineError, match="no letter for é"):
        text_mask("é".lower())
    with pytest.raises(EngineError, match="write letters"):
        text_mask("  ")
    for size in (0, -3, 1, 257):
        with pytest.raises(EngineError, match="from 2 to 256"):
            shape_mask("heart", size)
    with pytest.raises(EngineError, match="from 2 to 256"):
        text_mask("A" * 60)
