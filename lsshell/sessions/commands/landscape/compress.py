"""How far the weights can be compressed at places of the path, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_picture, check_table, write_picture, write_table
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.compression import Compression, WeightMeasures

MOST_PLACES = 20


@VOCABULARY.command("landscape")
def compress(
    *where: str,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Measure how far the weights can be compressed: by pruning, and by quantisation.

    Several places are shown side by side: `compress start l1:40 compress:40`. Biases are left
    alone. Pruned at one threshold for all weights, the greatest that keeps the training accuracy
    within half a point (the RMSE within half a percent); int8: each tensor to 255 even levels.
    The figure shows the test accuracy (RMSE) against the share pruned.

    Parameters
    ----------
    where
        here, points as in `goto`, or checkpoint files.
    out
        Write the figure to FILE.png, .svg, .pdf or .txt rather than draw it here.
    save
        Write the measures of each layer at each place to FILE.csv or .json.
    """
    check_picture(session, out)
    check_table(session, save)
    names = where or ("here",)
    if len(names) > MOST_PLACES:
        raise CommandError(f"at most {MOST_PLACES} places at a time")
    if len(set(names)) < len(names):
        raise CommandError("the same place is named twice")
    from lsshell.engine.events import Progress
    from lsshell.engine.landscape.compression import compression

    engine = session.engine
    problem = engine.ready()
    places = [named_place(session, name) for name in names]
    found: list[Compression] = []
    for place in places:
        found.append(
            compression(
                problem,
                place,
                lambda done, total, name=place.name: engine.listen(
                    Progress("compress", done, total, name)
                ),
            )
        )
    values: dict[str, Any] = {
        "places": {name: _values(one) for name, one in zip(names, found, strict=True)}
    }
    if save is not None:
        write_table(session, save, _rows(names, found))
    text = _side_by_side(names, found)
    if len(found) == 1:
        text += f"\n\n{_by_tensor(found[0])}"
    check = {"places": dict(values["places"])}
    for file in (out, save):
        text += f"\nwrote {file}" if file is not None else ""
    if save is not None:
        values["saved"] = str(save)
    figure = _figure(names, found)
    if out is None:
        return Reply(values, text, check, figure)
    write_picture(session, out, [figure])
    return Reply({**values, "file": str(out)}, text, check)


def _values(one: Compression) -> dict[str, Any]:
    rate = "accuracy" if one.classification else "rmse"
    return {
        **_measures(one.total),
        "compressibility_sum": one.sum,
        f"train_{rate}": one.train,
        f"test_{rate}": one.test,
        "threshold": max(one.threshold, 0.0),
        "sparsity": one.sparsity,
        f"pruned_train_{rate}": one.pruned_train,
        f"pruned_test_{rate}": one.pruned_test,
        f"int8_train_{rate}": one.int8_train,
        f"int8_test_{rate}": one.int8_test,
        "size_ratio": one.size_ratio,
        "pruned_ratio": one.pruned_ratio,
    }


def _measures(weights: WeightMeasures) -> dict[str, Any]:
    return {
        "weights": weights.weights,
        "compressibility": weights.compressibility,
        "hoyer": weights.hoyer,
        "near_zero": weights.near_zero,
        "pruned": weights.pruned,
        **{f"entropy_{k}": bits for k, bits in weights.entropy.items()},
    }


def _rows(names: Sequence[str], found: Sequence[Compression]) -> list[dict[str, Any]]:
    """A row for each tensor at each place, and one for all: what is of the network stands there."""
    rows = []
    for name, one in zip(names, found, strict=True):
        whole = _values(one)
        empty = dict.fromkeys(k for k in whole if k not in _measures(one.total))
        for tensor in one.tensors:
            rows.append({"place": name, "layer": tensor.name, **_measures(tensor), **empty})
        rows.append({"place": name, "layer": "all", **whole})
    return rows


def _side_by_side(names: Sequence[str], found: Sequence[Compression]) -> str:
    classification = found[0].classification

    def rate(value: float) -> str:
        return f"{100 * value:.2f} %" if classification else number(value, 5)

    def share(value: float) -> str:
        return f"{100 * value:.2f} %"

    what = "accuracy" if classification else "RMSE"
    lines: list[tuple[str, Callable[[Compression], str]]] = [
        ("C = ‖w‖₁/‖w‖₂, all weights", lambda c: number(c.total.compressibility, 5)),
        ("Σ over layers of C", lambda c: number(c.sum, 5)),
        ("Hoyer sparsity", lambda c: number(c.total.hoyer)),
        ("|w| < 1e-3 max|w|", lambda c: share(c.total.near_zero)),
        *(
            (f"bits a weight, {k} levels", lambda c, k=k: f"{c.total.entropy[k]:.3f}")
            for k in found[0].total.entropy
        ),
        (f"training {what}", lambda c: rate(c.train)),
        (f"test {what}", lambda c: rate(c.test)),
        ("pruned to zero", lambda c: share(c.sparsity)),
        (f"training {what}, pruned", lambda c: rate(c.pruned_train)),
        (f"test {what}, pruned", lambda c: rate(c.pruned_test)),
        (f"training {what}, int8", lambda c: rate(c.int8_train)),
        (f"test {what}, int8", lambda c: rate(c.int8_test)),
        ("smaller by: int8 and zlib", lambda c: f"{c.size_ratio:.2f}×"),
        ("smaller by: pruned, int8, zlib", lambda c: f"{c.pruned_ratio:.2f}×"),
    ]
    return table(["", *names], [[label, *(show(c) for c in found)] for label, show in lines])


def _by_tensor(one: Compression) -> str:
    headers = ["layer", "weights", "C", "Hoyer", "near 0", "pruned"]
    headers += [f"bits, {k}" for k in one.total.entropy]
    rows = [
        [
            t.name,
            str(t.weights),
            number(t.compressibility),
            number(t.hoyer),
            f"{100 * t.near_zero:.2f} %",
            f"{100 * t.pruned:.2f} %",
            *(f"{bits:.3f}" for bits in t.entropy.values()),
        ]
        for t in one.tensors
    ]
    return table(headers, rows)


def _figure(names: Sequence[str], found: Sequence[Compression]) -> Figure:
    scale = 100.0 if found[0].classification else 1.0
    what = "test accuracy (%)" if found[0].classification else "test RMSE"
    series = [
        Series(
            name,
            tuple(100 * share for share, _, _ in one.curve),
            tuple(scale * test for _, _, test in one.curve),
        )
        for name, one in zip(names, found, strict=True)
    ]
    return Figure(f"{what} when pruned", "weights pruned (%)", what, tuple(series))
