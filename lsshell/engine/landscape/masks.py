"""Pictures as grids of light and dark cells: shapes, words and picture files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.glyphs import GLYPHS
from lsshell.engine.suggestions import did_you_mean
from lsshell.engine.vocabulary import SHAPES

DEFAULT_SIZE, PICTURE_SIZE, MOST_SIZE = 20, 50, 256
_MOST_PIXELS = 50_000_000
_LIGHT = 128  # of 255
Cells = NDArray[np.int8]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Mask:
    """cells (h, w), the first row on top: +1 where light, −1 where dark, 0 where neither."""

    name: str
    cells: Cells

    def inverted(self) -> Mask:
        """Light for dark, and dark for light."""
        return replace(self, cells=(-self.cells).astype(np.int8))

    def outline(self) -> Mask:
        """Only the cells with one of the other kind among their eight neighbours; others are 0.

        As published: the inside of a region that is all light or all dark is ignored.
        """
        h, w = self.cells.shape
        padded = np.pad(self.cells, 1, mode="edge")
        around = np.stack([padded[a : a + h, b : b + w] for a in range(3) for b in range(3)])
        same = around.min(0) == around.max(0)
        return replace(self, cells=np.where(same, 0, self.cells).astype(np.int8))

    def offsets(self, kind: int) -> Numbers:
        """(n, 2): i (upward) and j (to the right), from the middle, of the cells of a kind."""
        h, w = self.cells.shape
        rows, columns = np.nonzero(self.cells == kind)
        return np.stack([(h - 1) / 2 - rows, columns - (w - 1) / 2], axis=1)


def shape_mask(name: str, size: int | None = None) -> Mask:
    """A built-in shape, size × size cells (20)."""
    if name not in _INSIDE:
        raise EngineError(
            f"there is no shape {name!r}{did_you_mean(name, SHAPES)}; there are"
            f" {', '.join(SHAPES)}; or name a picture file, or say --text WORD"
        )
    n = _checked(DEFAULT_SIZE if size is None else size)
    middles = (2.0 * np.arange(n) + 1.0 - n) / n  # as far from 0 on either side, to the last bit
    x, y = np.meshgrid(middles, -middles)
    return _both_kinds(name, _INSIDE[name](x, y))


def text_mask(word: str, size: int | None = None) -> Mask:
    """A word in light letters of 5 × 7 cells with a cell around; the letters are enlarged as far
    as the longer side stays within `size`.
    """
    unknown = sorted({c for c in word if c.upper() not in GLYPHS})
    if unknown or not word.strip():
        which = f"there is no letter for {' '.join(unknown)}; " if unknown else ""
        signs = " ".join(c for c in GLYPHS if not c.isalnum() and not c.isspace())
        raise EngineError(f"--text {word!r}: {which}write letters A to Z, digits and {signs}")
    columns = [np.zeros(7, bool)]
    for letter in word.upper():
        columns += [np.array([bits >> row & 1 for row in range(7)], bool)
                    for bits in GLYPHS[letter]]  # fmt: skip
        columns.append(np.zeros(7, bool))
    light = np.pad(np.stack(columns, axis=1), ((1, 1), (0, 0)))
    times = 1 if size is None else max(1, _checked(size) // max(light.shape))
    light = light.repeat(times, 0).repeat(times, 1)
    _checked(max(light.shape))
    return _both_kinds(word, light)


def picture_mask(file: Path, size: int | None = None) -> Mask:
    """A PNG or JPEG picture: light where its grey is 128 of 255 or more, transparent is white.

    Its longer side becomes `size` cells; by default it stays as it is up to 50, and else becomes
    50. Raises EngineError for a file that is no such picture, or too large to be opened safely.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(file, formats=("PNG", "JPEG")) as picture:
            # Sizes are read before anything is unpacked: a small file may hold a vast picture.
            if picture.width * picture.height > _MOST_PIXELS:
                raise EngineError(
                    f"{file} is {picture.width}×{picture.height}: too large; make it smaller first"
                )
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opaque = Image.new("RGBA", picture.size, "white")
            opaque.alpha_composite(picture.convert("RGBA"))
            grey = opaque.convert("L")
    except FileNotFoundError:
        raise EngineError(f"there is no file {file}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as e:  # fmt: skip
        raise EngineError(f"{file} is no PNG or JPEG picture that can be read: {e}") from None
    longer = max(grey.size)
    wanted = min(longer, PICTURE_SIZE) if size is None else _checked(size)
    if wanted != longer:
        grey = grey.resize(
            tuple(max(1, round(side * wanted / longer)) for side in grey.size),
            Image.Resampling.BOX,
        )
    return _both_kinds(file.name, np.asarray(grey) >= _LIGHT)


def _both_kinds(name: str, light: NDArray[np.bool_]) -> Mask:
    if light.all() or not light.any():
        kind = "light" if light.all() else "dark"
        raise EngineError(
            f"{name} is all {kind} at {light.shape[1]}×{light.shape[0]} cells: a pattern needs"
            " cells of both kinds; another --size may show some"
        )
    return Mask(name, np.where(light, 1, -1).astype(np.int8))


def _checked(size: int) -> int:
    if not 2 <= size <= MOST_SIZE:
        raise EngineError(f"a picture has from 2 to {MOST_SIZE} cells a side, not {size}")
    return size


# -- shapes: whether the middle of a cell, in [−1, 1]² with y upward, is inside --------------------


def _heart(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    x, y = 1.1 * x, 1.3 * y + 0.2
    return x**2 + (y - 0.75 * np.sqrt(abs(x))) ** 2 <= 1.0


def _ring(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    r = np.hypot(x, y)
    return (r >= 0.45) & (r <= 0.85)


def _smile(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    r = np.hypot(x, y)
    eyes = np.hypot(np.abs(x) - 0.35, y - 0.32) <= 0.17
    mouth = (r >= 0.42) & (r <= 0.64) & (y < -0.15)
    return (r <= 0.95) & ~eyes & ~mouth


def _checkerboard(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return (np.floor(2.0 * (x + 1.0)) + np.floor(2.0 * (y + 1.0))) % 2 == 0


def _cross(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return (np.minimum(abs(x), abs(y)) <= 0.25) & (np.maximum(abs(x), abs(y)) <= 0.85)


# The right half of its outline, from the head down the wing to the tail.
_BAT = ((0.0, 0.32), (0.08, 0.32), (0.16, 0.55), (0.24, 0.22), (0.45, 0.22), (0.52, 0.6),
        (0.98, 0.4), (0.9, -0.3), (0.68, -0.08), (0.52, -0.42), (0.32, -0.16), (0.18, -0.4),
        (0.0, -0.62))  # fmt: skip


def _bat(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    x, inside = abs(x), np.zeros(x.shape, bool)
    corners = [*_BAT, _BAT[0]]
    for (x0, y0), (x1, y1) in pairwise(corners):
        if y0 != y1:  # even-odd rule
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return inside


_INSIDE: dict[str, Callable[[Numbers, Numbers], NDArray[np.bool_]]] = {
    "heart": _heart,
    "ring": _ring,
    "smile": _smile,
    "checkerboard": _checkerboard,
    "cross": _cross,
    "bat": _bat,
}
