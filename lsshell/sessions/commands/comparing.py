"""What a point is held against: compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lsshell.sessions.errors import CommandError
from lsshell.sessions.points import point_values
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import MOST, VOCABULARY, Flag, FromSession, positive

if TYPE_CHECKING:
    from lsshell.engine.comparison import Spread, Trained
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Point


@VOCABULARY.command("view")
def compare(
    what: Literal["weight-decay", "branches"],
    /,
    *,
    penalties: Annotated[str, Parameter(name="--lambda")] = "1e-6:1e6:13",
    runs: int = 15,
    epochs: int = 200,
    rate: float = 1e-3,
    batch: int = 32,
    begin: Annotated[Literal["scratch", "start"], Parameter(name="--from")] = "scratch",
    biases: Flag = False,
    session: FromSession,
) -> Reply:
    """Compare this point with weighted-sum training, loss + λ·Σ w²; or the branches walked.

    weight-decay: losses are of the data alone; λ = 0 is always among them. Marked are the λ of
    least test loss (*), chosen on the test set as the paper does, which flatters weight decay, and,
    where the data has validation examples, that of least validation loss (v).

    branches: what each regulariser walked along has done at equal training loss.

    Parameters
    ----------
    what
        weight-decay or branches.
    penalties
        λ as FROM:TO:COUNT on a logarithmic scale, a list 1e-4,1e-3, or `implied`: 1/ν here, alone.
    runs
        Trainings for each λ, each from its own seed.
    epochs
        Passes over the training examples (the paper: 200 for images, 500 for tables).
    rate
        Learning rate of Adam.
    batch
        Examples in a mini-batch.
    begin
        scratch (fresh initialisations, as published) or start (fine-tuning from the walk's start).
    biases
        Penalise the biases too, as the walk along l2 does; published: the weights alone.
    """
    if what == "branches":
        return _branches(session)
    positive(runs=runs, epochs=epochs, rate=rate, batch=batch)
    from lsshell.engine.comparison import comparison_rows

    engine = session.engine
    asked = _implied(engine, biases) if penalties == "implied" else _penalties(penalties)
    if not asked:
        return Reply(
            {"rows": [], "runs": [], "from": begin, "implied": True},
            "no weight decay is implied here: 1/ν is above 0 only where ∇R points against ∇L, on"
            " the way to the constrained minimum",
        )
    found = engine.compare_weight_decay(
        asked,
        from_start=begin == "start",
        runs=runs,
        epochs=epochs,
        rate=rate,
        batch=batch,
        biases=biases,
    )
    rows, here = comparison_rows(found), engine.measure()
    values = {
        "rows": [asdict(r) for r in rows],
        "runs": [asdict(t) for t in found],
        "from": begin,
        "implied": penalties == "implied",
        "epochs": epochs,
        "rate": rate,
        "batch": batch,
        "biases": biases,
        "here": point_values(here),
    }
    text = f"{engine.data_words}\n{_comparison_table(found, here)}"
    if len(found) < len(asked) * runs:
        return Reply(values, f"interrupted\n{text}", {}, interrupted=True)
    return Reply(values, text)


def _implied(engine: Engine, biases: bool) -> list[float]:
    """The λ for which a constrained minimum here is stationary in L + λ·Σ w²; none under 0."""
    name = "l2" if biases else "l2-weights"
    if set(engine.sum.terms) != {name}:
        raise CommandError(
            f"--lambda implied: {name} alone must be on{'' if biases else ' (l2 with --biases)'},"
            " since weight decay is what it implies"
        )
    found = engine.measure().implied_weight_decay
    return [found * engine.sum.terms[name][1]] if found is not None and found > 0.0 else []


def _penalties(text: str) -> list[float]:
    """0 and the λ asked for, ascending."""
    try:
        if ":" in text:
            low, high, count = text.split(":")
            first, last, n = float(low), float(high), int(count)
            if not (0 < first <= last and n >= 1):
                raise ValueError
            ratio = (last / first) ** (1 / max(n - 1, 1))
            found = [float(f"{first * ratio**k:.12g}") for k in range(n)]
        else:
            found = [float(part) for part in text.split(",")]
            if not all(0 <= penalty < MOST for penalty in found):
                raise ValueError
    except ValueError as e:
        raise CommandError(
            f"--lambda {text}: expected FROM:TO:COUNT (1e-6:1e6:13), a list (1e-4,1e-3) or implied"
        ) from e
    return sorted({0.0, *found})


def _comparison_table(trained: Sequence[Trained], here: Point) -> str:
    from lsshell.engine.comparison import best_penalty, comparison_rows

    found = comparison_rows(trained)
    by_test, by_validation = best_penalty(trained, "test"), best_penalty(trained, "validation")

    def spread(s: Spread | None, scale: float = 1.0) -> str:
        if s is None:
            return "–"
        alone = all(r.runs == 1 for r in found)
        return number(scale * s.mean) + ("" if alone else f" ± {number(scale * s.std, 2)}")

    accuracy = here.test_accuracy is not None
    rows = [
        [
            f"λ = {r.penalty:g}"
            + " *" * (r.penalty == by_test)
            + " v" * (r.penalty == by_validation),
            str(r.runs),
            spread(r.train_loss),
            spread(r.validation_loss),
            spread(r.test_loss),
            spread(r.test_accuracy, 100) if accuracy else spread(r.test_rmse),
            spread(r.l2),
        ]
        for r in found
    ]
    rate = 100 * here.test_accuracy if here.test_accuracy is not None else here.test_rmse
    rows.append(
        [
            "this point",
            "1",
            number(here.loss),
            number(here.validation_loss),
            number(here.test_loss),
            number(rate),
            number(here.regularizers.get("l2")),
        ]
    )
    headers = ["", "runs", "training loss", "validation loss", "test loss",
               "accuracy %" if accuracy else "RMSE", "‖θ‖²"]  # fmt: skip
    if not any(r.validation_loss for r in found):
        headers, rows = (
            (h for i, h in enumerate(headers) if i != 3),
            [[c for i, c in enumerate(row) if i != 3] for row in rows],
        )
    return table(list(headers), rows)


def _branches(session: FromSession) -> Reply:
    """A row a branch of this traversal: its end, and its point of least validation (test) loss."""
    from lsshell.engine.path import best_of

    engine = session.engine
    points = engine.path.traversal()
    if all(p.begins for p in points):
        raise CommandError("nothing has been walked yet: `branch NAME`, `reg …`, `walk`")
    start = engine.path.start()
    values: dict[str, Any] = {}
    rows = []
    for name in dict.fromkeys(p.branch for p in points if not p.begins):
        line = [p for p in points if p.branch == name and not p.begins]
        end, best = line[-1], best_of(line) or line[-1]
        changes = {
            n: v / start.regularizers[n] - 1
            for n, v in end.regularizers.items()
            if start.regularizers.get(n, 0.0) > 0.0
        }
        values[name] = {
            "end": point_values(end), "best": point_values(best), "changes": changes,
        }  # fmt: skip
        rows.append(
            [
                name,
                str(end.step),
                str(end.gradients),
                "–" if end.residual is None else f"{end.residual:+.3f}",
                *_changes(start, end),
                "–" if end.angle_deg is None else f"{end.angle_deg:.1f}°",
                *_changes(start, best),
                str(best.step),
                *(f"{100 * changes[n]:+.1f}" if n in changes else "–" for n in _SHOWN),
            ]
        )
    rate = "Δ acc. %" if start.test_accuracy is not None else "Δ RMSE"
    headers = ["branch", "steps", "gradients", "ΔL/tol", "Δ test loss", rate, "angle",
               "Δ test, best", rate, "at step", *(f"{n} %" for n in _SHOWN)]  # fmt: skip
    first = (
        f"{engine.data_words}: from training loss {number(start.loss)}, test loss"
        f" {number(start.test_loss)}; the last columns are changes of regularisers"
    )
    return Reply(
        {"start": point_values(start), "branches": values},
        f"{first}\n{table(headers, rows)}",
    )


_SHOWN = ("l2", "l1", "group", "compress", "spectral", "path-norm")


def _changes(start: Point, point: Point) -> tuple[str, str]:
    """Of test loss, and of accuracy in points of a hundred or RMSE."""
    loss = rate = "–"
    if point.test_loss is not None and start.test_loss is not None:
        loss = f"{point.test_loss - start.test_loss:+.4f}"
    if point.test_accuracy is not None and start.test_accuracy is not None:
        rate = f"{100 * (point.test_accuracy - start.test_accuracy):+.2f}"
    elif point.test_rmse is not None and start.test_rmse is not None:
        rate = f"{point.test_rmse - start.test_rmse:+.4f}"
    return loss, rate
