"""A picture drawn by the loss: pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.engine.vocabulary import Shape
from lsshell.figures.figure import Figure, Surface
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import (
    check_picture,
    check_table,
    check_writable,
    write_picture,
    write_table,
)
from lsshell.sessions.places import as_file
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.masks import Mask
    from lsshell.engine.landscape.patterns import PatternResult, Scored


@VOCABULARY.command("landscape")
def pattern(
    picture: Shape | str | None = None,
    /,
    *,
    text: str | None = None,
    size: int | None = None,
    invert: Flag = False,
    outline: Flag = False,
    epochs: int = 100,
    batch: int = 256,
    rate: float = 5e-3,
    cells: int = 50,
    clip: float = 2.5,
    until_difference: float | None = None,
    examples: int = 1000,
    padding: int = 3,
    seed: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    save_plane: Path | None = None,
    session: FromSession,
) -> Reply:
    """Find a plane in parameter space on which the loss draws a picture.

    Low loss where the picture is light, high loss where it is dark: a plane through three networks
    like the session's, freshly initialised, is learned on mini-batches (multi-point optimisation,
    Skorokhodov & Burtsev 2019). It takes minutes. The session's own parameters are not moved.
    Ctrl-C ends it with the plane as it is then.

    Parameters
    ----------
    picture
        heart (the default), ring, smile, checkerboard, cross, bat, or a FILE.png or .jpg.
    text
        A word to write instead, in letters of 5 × 7 cells.
    size
        Cells along the longer side (20; a picture file's own up to 50).
    invert
        Light for dark.
    outline
        Ignore cells that have only cells of their own kind around them.
    epochs
        At most so many passes over the training examples.
    batch
        Examples in a mini-batch.
    rate
        Learning rate of Adam.
    cells
        At most so many cells of each kind in one update.
    clip
        Dark cells are driven no further once their loss is above this.
    until_difference
        End when accuracy on light cells exceeds that on dark ones by this, as 0.6, in an epoch's
        mini-batches.
    examples
        Training and test examples that every cell is scored on at the end.
    padding
        Cells around the picture that are scored too.
    seed
        Of the three networks, batches and cells (the session's).
    out
        Write the picture, the loss, and training and test accuracy to FILE.png, .svg or .pdf.
    save
        Write every cell's scores to FILE.csv or .json.
    save_plane
        Write the plane (o, u, v, s and the picture) to FILE.safetensors.
    """
    check_picture(session, out)
    if out is not None and out.suffix == ".txt":
        raise CommandError(f"--out {out}: four panels go into .png, .svg or .pdf")
    check_table(session, save)
    if save_plane is not None and save_plane.suffix != ".safetensors":
        raise CommandError(f"--save-plane {save_plane}: a plane ends in .safetensors")
    check_writable(session, save_plane)
    from lsshell.engine.landscape import patterns
    from lsshell.engine.walk import INTERRUPTED

    mask = _mask(session, picture, text, size)
    mask = mask.inverted() if invert else mask
    mask = mask.outline() if outline else mask
    result = patterns.pattern(
        session.engine,
        patterns.PatternRequest(
            mask,
            epochs=epochs,
            batch=batch,
            rate=rate,
            cells=cells,
            clip=clip,
            until_difference=until_difference,
            padding=padding,
            examples=examples,
            seed=seed,
            stop_after=session.step_limit,
        ),
    )
    values = _values(result)
    check = dict(values)
    figure = _loss_figure(result)
    written = []
    if out is not None:
        write_picture(session, out, _panels(result))
        written.append(out)
    if save is not None:
        write_table(session, save, _rows(result))
        written.append(save)
    if save_plane is not None:
        _write_plane(session, save_plane, result)
        written.append(save_plane)
    if written:
        values["files"] = [str(file) for file in written]
    said = [_text(result), *(f"wrote {file}" for file in written)]
    interrupted = result.reason == INTERRUPTED
    return Reply(values, "\n".join(said), check, None if out else figure, interrupted=interrupted)


def _mask(session: FromSession, picture: str | None, text: str | None, size: int | None) -> Mask:
    from lsshell.engine.landscape.masks import picture_mask, shape_mask, text_mask

    if text is not None:
        if picture is not None:
            raise CommandError(f"{picture} or --text {text}, not both")
        return text_mask(text, size)
    file = None if picture is None else as_file(session, picture)
    if file is not None:
        return picture_mask(file, size)
    return shape_mask(picture or "heart", size)


def _values(result: PatternResult) -> dict[str, Any]:
    from lsshell.engine.landscape.patterns import KINDS

    height, width = result.mask.cells.shape
    scores: dict[str, Any] = {}
    for split in ("train", "test"):
        scores[split] = {}
        for kind in KINDS:
            loss, accuracy = result.mean(split, kind)
            scores[split][kind] = {"loss": loss, "accuracy": accuracy}
        scores[split]["difference"] = (
            scores[split]["light"]["accuracy"] - scores[split]["dark"]["accuracy"]
        )
    return {
        "picture": result.mask.name,
        "cells": {
            "height": height,
            "width": width,
            **{kind: int((result.mask.cells == value).sum()) for kind, value in KINDS.items()},
        },
        **scores,
        "s": float(result.plane.s),
        "spacing": result.spacing,
        "steps": result.steps,
        "epochs": result.epochs,
        "gradients": result.gradients,
        "batch_difference": result.difference,
        "examples": list(result.examples),
        "reason": result.reason,
        "theta": result.theta,
    }


def _text(result: PatternResult) -> str:
    rows = []
    for split, count in zip(("train", "test"), result.examples, strict=True):
        (light, right), (dark, wrong) = (result.mean(split, kind) for kind in ("light", "dark"))
        rows.append(
            [
                f"{count} {'training' if split == 'train' else 'test'} examples",
                number(light),
                number(dark),
                number(100 * right),
                number(100 * wrong),
                number(100 * (right - wrong)),
            ]
        )
    headers = ["means over cells", "loss, light", "dark", "accuracy %, light", "dark", "difference"]
    first = (
        f"{result.reason}: {result.steps} updates, {result.gradients} gradients of mini-batches;"
        f" s {number(float(result.plane.s))}, cells lie {number(result.spacing)} apart"
    )
    return f"{first}\n{table(headers, rows)}"


def _surface(result: PatternResult, values: Any, label: str, **options: Any) -> Surface:
    """Rows from the lowest up, as an axis has them."""
    return Surface(
        result.right,
        result.up[::-1],
        tuple(tuple(float(v) for v in row) for row in values[::-1]),
        label,
        **options,
    )


def _loss_figure(result: PatternResult) -> Figure:
    return _figure(result, _surface(result, result.train.loss, "training loss", log=True))


def _panels(result: PatternResult) -> list[Figure]:
    """What was asked for, and what there is."""
    import numpy as np

    asked = np.pad(result.mask.cells.astype(float), result.padding, constant_values=float("nan"))
    share = {"limits": (0.0, 1.0)}
    return [
        _figure(result, _surface(result, asked, "picture: light 1, dark −1", limits=(-1.0, 1.0))),
        _loss_figure(result),
        _figure(result, _surface(result, result.train.accuracy, "training accuracy", **share)),
        _figure(result, _surface(result, result.test.accuracy, "test accuracy", **share)),
    ]


def _figure(result: PatternResult, surface: Surface) -> Figure:
    title = f"{result.mask.name}, {surface.label}"
    return Figure(title, "j (cells)", "i (cells)", (), equal_axes=True, surface=surface)


def _rows(result: PatternResult) -> list[dict[str, Any]]:
    """A row a cell, padding included: where it is, what it should be, and what it scores."""
    found = []
    padding, cells = result.padding, result.mask.cells

    def of(scored: Scored, row: int, column: int) -> tuple[float, float]:
        return float(scored.loss[row, column]), float(scored.accuracy[row, column])

    for row, i in enumerate(result.up):
        for column, j in enumerate(result.right):
            y, x = row - padding, column - padding
            inside = 0 <= y < cells.shape[0] and 0 <= x < cells.shape[1]
            train, test = of(result.train, row, column), of(result.test, row, column)
            found.append(
                {
                    "row": y,
                    "column": x,
                    "i": i,
                    "j": j,
                    "mask": int(cells[y, x]) if inside else 0,
                    "train_loss": train[0],
                    "train_accuracy": train[1],
                    "test_loss": test[0],
                    "test_accuracy": test[1],
                }
            )
    return found


def _write_plane(session: FromSession, file: Path, result: PatternResult) -> None:
    import torch

    from lsshell.engine.checkpoints import write_checkpoint

    engine, axes = session.engine, result.plane.axes()
    tensors = {
        "o": result.plane.o,
        "u": axes.u,
        "v": axes.v,
        "s": result.plane.s,
        "mask": torch.from_numpy(result.mask.cells.copy()),
    }
    metadata = {
        "format": "lsshell pattern 1",
        "model": engine.model_words,
        "data": engine.data_words,
        "picture": result.mask.name,
    }
    write_checkpoint(session.writable(file), tensors, metadata)
