"""The help: every key, every command, what the numbers mean."""

from __future__ import annotations

from textual.content import Content

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Walk",
        (
            ("r", "run: the rest of a paused walk, or a walk like the last one"),
            ("p", "pause after this step; r goes on"),
            ("s", "one step"),
            ("w", "write a walk on the command line: method, steps, where to stop"),
            ("Esc  Ctrl-C", "stop at a valid point"),
            ("u", "undo one step"),
            ("b", "go to the best point: least test loss"),
            ("n", "new branch here"),
            ("m", "measure everything at this point"),
        ),
    ),
    (
        "Screen",
        (
            ("1 … 5", "make a plot the big one"),
            ("6 7 8 9 0", "regularisers, steps, branches, log, replay"),
            ("f", "fill the screen with the pane at hand; again or Esc: back"),
            ("g", "all plots alike, or one big"),
            ("l", "logarithmic scale in the big plot"),
            ("x", "against steps, gradients, path length or ‖θ‖²"),
            ("c", "colour the path by test loss or by step"),
            ("a", "test loss or test accuracy in the first plot"),
            ("Tab  Shift-Tab", "next pane, last pane"),
            ("t", "light or dark"),
        ),
    ),
    (
        "In a pane",
        (
            ("Space  Enter", "regularisers: switch on or off; + − change the weight"),
            ("Enter", "steps, branches: go to this point (so does a double click);"),
            ("", "later ones stay as a branch"),
        ),
    ),
    (
        "Session",
        (
            (":", "the command line: Tab completes, ↑ looks back, Esc leaves"),
            ("o", "open a checkpoint, data, a script or a session"),
            ("Ctrl-S", "save the session in a folder of your choice"),
            ("Ctrl-P", "every command by name"),
            ("q  Ctrl-Q", "leave; the session is on disk already"),
        ),
    ),
    (
        "Landscape",
        (
            ("L  F2", "measures of the loss around the path, and what they gave; again: back"),
            ("Enter", "measures: write one on the command line, with its help; → takes what"),
            ("", "its options are where nothing is said, to be changed"),
            ("↑ ↓", "results: show one again, as it is: nothing is measured"),
            ("Enter", "results: write its line on the command line again"),
            ("f", "the figure alone; again or Esc: the lists, too"),
            ("Esc", "stop the measure under way, or go back"),
        ),
    ),
)

NUMBERS = """\
L is the mean loss over the full training set. A point is on the level set where |L − L*| ≤ tol.
The angle between ∇L and ∇R is 180° at a constrained minimum of R.
R is that of the regularisers and weights which are on now, also in rows walked under others.
gradients count work in units of one full-batch loss-and-gradient.
Everything clicked is a command: the log shows it, and the session's script holds it."""


def help_text(commands: str) -> Content:
    """All of it; `commands` is the list that `help` gives."""
    parts: list[str | tuple[str, str]] = []
    for title, rows in KEYS:
        parts.append((f"{title}\n", "bold $accent"))
        for key, words in rows:
            parts += [(f"  {key:<16}", "bold"), f"{words}\n"]
        parts.append("\n")
    parts += [("What the numbers mean\n", "bold $accent"), f"{NUMBERS}\n\n"]
    if commands:
        parts += [("Commands\n", "bold $accent"), commands]
    return Content.assemble(*parts)
