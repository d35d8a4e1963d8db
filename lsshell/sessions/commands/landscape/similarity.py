"""similarity: CKA of layers and outputs, disagreement, ensemble gain and distance of points."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lsshell.engine.suggestions import did_you_mean
from lsshell.figures.figure import Figure, Surface
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_picture, check_table, write_picture, write_table
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.similarity import Ensemble, PairSimilarity, Similarity

Quantity = Literal["cka", "kernel-cka", "disagreement", "ensemble", "distance"]
# Pairs that a table on screen, and a result, have room for.
MOST_PAIRS = 45
MOST_WORDS = 12


@VOCABULARY.command("landscape")
def similarity(
    *places: str,
    split: Literal["test", "train"] = "test",
    examples: int = 768,
    mixup: Flag = False,
    align: Flag = False,
    show: Quantity = "cka",
    layer: str | None = None,
    seed: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """How alike the functions of two or more points are: CKA, disagreement, ensemble gain.

    Linear and kernel CKA of every layer and of the outputs, 1 where they are alike up to rotation
    and scale; examples on which the predicted class differs; what the average of the predictions
    gains over them; ‖θ_A − θ_B‖. The walk stays where it is.

    Parameters
    ----------
    places
        Points as in `goto`, or checkpoint files; a single one is compared with `here`.
    split
        On test or training examples.
    examples
        CKA is of so many, drawn at random (the rest is of all).
    mixup
        CKA is of mixtures of two inputs each, as in the taxonomy paper.
    align
        The distance after permuting hidden units, too.
    show
        Three points or more: what the matrix shows.
    layer
        The layer whose CKA it is, as the table of two names it (the logits).
    seed
        For the examples drawn (the session's).
    out
        Write the figure to FILE.png, .svg, .pdf or .txt rather than draw it here.
    save
        Write every layer of every pair to FILE.csv or .json.
    """
    from lsshell.engine.landscape.similarity import layers_of
    from lsshell.engine.landscape.similarity import similarity as compare

    check_picture(session, out)
    check_table(session, save)
    engine = session.engine
    problem = engine.ready()
    if not places:
        raise CommandError("name the points to compare, as in `similarity start here`")
    found_at = [named_place(session, w) for w in (places if places[1:] else (*places, "here"))]
    known = layers_of(problem, found_at[0])
    chosen = _chosen(layer, known)
    found = compare(
        problem,
        found_at,
        split=split,
        examples=examples,
        mixup=mixup,
        permute=align,
        seed=engine.seed if seed is None else seed,
        listen=engine.listen,
    )
    checked: dict[str, Any] = {"places": list(found.names), "examples": found.examples}
    if len(found.pairs) == 1:
        checked |= _pair_values(found.pairs[0])
        text, figure = _layer_text(found), _layer_figure(found)
    else:
        checked |= _matrix_values(found, show, chosen)
        text, figure = _matrix_text(found, chosen), _matrix_figure(found, show, chosen)
    values = dict(checked)
    if save is not None:
        write_table(session, save, _rows(found))
        values["saved"], text = str(save), f"{text}\nwrote {save}"
    if out is not None:
        write_picture(session, out, [figure])
        values["file"], text = str(out), f"{text}\nwrote {out}"
    return Reply(values, text, checked, figure if out is None else None)


def _chosen(layer: str | None, known: tuple[str, ...]) -> str:
    """The layer's name in full: its number, or its name within the network, will do."""
    if layer is None:
        return "logits" if "logits" in known else known[-1]
    for name in known:
        if layer in (name, name.split(" ")[0]):
            return name
    raise CommandError(
        f"--layer {layer}: there is no such layer{did_you_mean(layer, known)};"
        f" known are {', '.join(known)}"
    )


def _pair_values(pair: PairSimilarity) -> dict[str, Any]:
    layers = {c.layer: {"cka": c.linear, "kernel_cka": c.kernel} for c in pair.layers}
    return {"layers": layers, **_numbers(pair)}


def _numbers(pair: PairSimilarity) -> dict[str, Any]:
    """What is said of a pair besides its layers."""
    if pair.disagreement is None:
        values: dict[str, Any] = {"rms_difference": pair.rms_difference}
    else:
        values = {"disagreement": pair.disagreement}
    values |= _ensemble_values(pair.ensemble)
    values |= {"distance": pair.distance, "relative_distance": pair.relative_distance}
    if pair.aligned_distance is not None:
        values["aligned_distance"] = pair.aligned_distance
    return values


def _ensemble_values(ensemble: Ensemble) -> dict[str, Any]:
    gain = {} if ensemble.gain is None else {"ensemble_gain": ensemble.gain}
    return gain | {"ensemble_loss_change": ensemble.loss_change}


def _matrix_values(found: Similarity, show: Quantity, layer: str) -> dict[str, Any]:
    numbers = [_quantity(pair, show, layer) for pair in found.pairs]
    finite = [v for v in numbers if v is not None]
    values: dict[str, Any] = {
        "show": show,
        "layer": layer,
        "mean": math.fsum(finite) / len(finite) if finite else None,
        "least": min(finite, default=None),
        "greatest": max(finite, default=None),
        **_ensemble_values(found.ensemble),
    }
    if len(numbers) <= MOST_PAIRS:
        values["pairs"] = numbers
    return values


def _quantity(pair: PairSimilarity, show: Quantity, layer: str) -> float | None:
    if show == "cka":
        return pair.layer(layer).linear
    if show == "kernel-cka":
        return pair.layer(layer).kernel
    if show == "disagreement":
        return pair.rms_difference if pair.disagreement is None else pair.disagreement
    if show == "ensemble":
        gain = pair.ensemble.gain
        return pair.ensemble.loss_change if gain is None else gain
    return pair.distance if pair.aligned_distance is None else pair.aligned_distance


def _label(found: Similarity, show: Quantity, layer: str) -> str:
    """What a quantity is, in words and units."""
    classes = found.ensemble.gain is not None
    aligned = found.pairs[0].aligned_distance is not None
    return {
        "cka": f"linear CKA of {layer}",
        "kernel-cka": f"kernel CKA of {layer}",
        "disagreement": "disagreement, %" if classes else "RMS difference",
        "ensemble": "ensemble gain, %" if classes else "ensemble's loss − mean",
        "distance": f"distance{' after alignment' if aligned else ''}",
    }[show]


def _heading(found: Similarity) -> str:
    kind = "mixtures of " if found.mixup else ""
    return f"CKA of {found.examples} {kind}{found.split} examples, the rest of {found.predicted}"


def _layer_text(found: Similarity) -> str:
    pair = found.pairs[0]
    cells = [[c.layer, number(c.linear), number(c.kernel)] for c in pair.layers]
    lines = [
        f"A {found.names[0]}, B {found.names[1]}; {_heading(found)}",
        table(["layer", "linear CKA", "kernel CKA"], cells),
    ]
    if pair.disagreement is None:
        lines.append(f"predictions differ by {number(pair.rms_difference)} (root mean square)")
    else:
        lines.append(f"predicted classes differ on {number(pair.disagreement)} % of the examples")
    lines.append(f"average of both: {_ensemble_text(found.ensemble)}")
    aligned = pair.aligned_distance
    after = "" if aligned is None else f"; {number(aligned)} after alignment"
    lines.append(
        f"distance {number(pair.distance)}, {number(pair.relative_distance)} times the mean"
        f" norm{after}"
    )
    return "\n".join(lines)


def _ensemble_text(ensemble: Ensemble) -> str:
    loss = f"loss {ensemble.loss_change:+.4g} against the mean of the single ones"
    return loss if ensemble.gain is None else f"accuracy {ensemble.gain:+.3g} %, {loss}"


def _matrix_text(found: Similarity, layer: str) -> str:
    classes = found.ensemble.gain is not None
    aligned = found.pairs[0].aligned_distance is not None
    headers = ["A", "B", "CKA", "kernel CKA"]
    headers += ["softmax CKA", "differ %", "gain %"] if classes else ["RMS difference"]
    headers += ["loss change", "distance", "relative", *(["aligned"] if aligned else [])]
    rows = []
    for pair in found.pairs[:MOST_PAIRS]:
        of = pair.layer(layer)
        row: list[float | None] = [of.linear, of.kernel]
        if classes:
            row += [pair.layer("softmax").linear, pair.disagreement, pair.ensemble.gain]
        else:
            row += [pair.rms_difference]
        row += [pair.ensemble.loss_change, pair.distance, pair.relative_distance]
        row += [pair.aligned_distance] if aligned else []
        names = found.names[pair.a], found.names[pair.b]
        rows.append([*names, *(number(value) for value in row)])
    lines = [f"{_heading(found)}; CKA and kernel CKA of {layer}"]
    lines.append(table(headers, rows, left=(0, 1)))
    if len(found.pairs) > MOST_PAIRS:
        lines.append(f"… and {len(found.pairs) - MOST_PAIRS} more: --save has all")
    count = len(found.names)
    lines.append(f"average of all {count}: {_ensemble_text(found.ensemble)}")
    return "\n".join(lines)


def _layer_figure(found: Similarity) -> Figure:
    """Layers from top to bottom, as the network has them."""
    layers = found.pairs[0].layers[::-1]
    z = tuple(tuple(math.nan if v is None else v for v in (c.linear, c.kernel)) for c in layers)
    surface = Surface(
        (0.0, 1.0),
        tuple(float(i) for i in range(len(layers))),
        z,
        "CKA",
        x_ticks=("linear", "kernel"),
        y_ticks=tuple(c.layer for c in layers),
        labels=tuple(tuple(map(_word, row)) for row in z),
    )
    title = f"Similarity of {found.names[0]} and {found.names[1]}"
    return Figure(title, "CKA", "layer", (), surface=surface)


def _word(value: float) -> str:
    return "–" if math.isnan(value) else number(value, 3)


def _matrix_figure(found: Similarity, show: Quantity, layer: str) -> Figure:
    count = len(found.names)
    itself = 1.0 if show in ("cka", "kernel-cka") else 0.0
    z = [[itself] * count for _ in range(count)]
    for pair in found.pairs:
        value = _quantity(pair, show, layer)
        z[pair.a][pair.b] = z[pair.b][pair.a] = math.nan if value is None else value
    label, at = _label(found, show, layer), tuple(float(i) for i in range(count))
    words = tuple(tuple(map(_word, row)) for row in z)
    apart = [z[p.a][p.b] for p in found.pairs if not math.isnan(z[p.a][p.b])]
    # The diagonal is known: colours are for what differs from pair to pair.
    spread = bool(apart) and min(apart) < max(apart)
    surface = Surface(
        at,
        at,
        tuple(map(tuple, z)),
        label,
        limits=(min(apart), max(apart)) if spread else None,
        x_ticks=tuple(str(i) for i in range(1, count + 1)),
        y_ticks=tuple(f"{name}  {i}" for i, name in enumerate(found.names, start=1)),
        labels=words if count <= MOST_WORDS else (),
    )
    return Figure(f"Similarity: {label}", "point", "point", (), surface=surface)


def _rows(found: Similarity) -> list[dict[str, Any]]:
    return [
        {
            "a": found.names[pair.a],
            "b": found.names[pair.b],
            "layer": c.layer,
            "cka": c.linear,
            "kernel_cka": c.kernel,
            **_numbers(pair),
        }
        for pair in found.pairs
        for c in pair.layers
    ]
