"""What there is to walk on: seed, device, dtype, threads, data, model, train, load, save."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lsshell.engine.vocabulary import Activation
from lsshell.sessions.errors import CommandError
from lsshell.sessions.points import point_values, test_words
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number
from lsshell.sessions.vocabulary import MOST, VOCABULARY, Flag, FromSession, positive

ANEW = "; the parameters stay, level, regularisers and path start anew"


@VOCABULARY.command("setup")
def seed(value: int, /, *, session: FromSession) -> Reply:
    """Fix the seed of everything random that follows: examples, initialisation, batches, probes.

    Parameters
    ----------
    value
        An integer; 0 until said otherwise.
    """
    session.engine.seed = value
    return Reply({"seed": value})


@VOCABULARY.command("setup")
def device(name: str | None = None, /, *, session: FromSession) -> Reply:
    """Choose where to compute, or show it: cpu, cuda, cuda:1, mps.

    Parameters
    ----------
    name
        The device. The GPU is chosen by itself where there is one.
    """
    anew = name is not None and session.engine.use_device(name)
    text = f"device {session.engine.device}{ANEW if anew else ''}"
    return Reply({"device": session.engine.device}, text)


@VOCABULARY.command("setup")
def dtype(name: Literal["float32", "float64"] | None = None, /, *, session: FromSession) -> Reply:
    """Choose the precision of parameters and arithmetic, or show it (float32 by default).

    The loss is formed from the network's outputs in float64 either way.
    """
    anew = name is not None and session.engine.use_dtype(name)
    text = f"dtype {session.engine.dtype}{ANEW if anew else ''}"
    return Reply({"dtype": session.engine.dtype}, text)


@VOCABULARY.command("setup")
def threads(count: int | None = None, /, *, session: FromSession) -> Reply:
    """Set the number of CPU threads, or show it; another number sums in another order."""
    import torch

    if count is not None:
        most = 4 * (os.cpu_count() or 1)
        if not 1 <= count <= most:
            raise CommandError(f"the number of threads must be at least 1 and at most {most} here")
        torch.set_num_threads(count)
    return Reply({"threads": torch.get_num_threads()}, f"threads {torch.get_num_threads()}")


@VOCABULARY.command("setup")
def data(
    name: str,
    /,
    *,
    train: int | None = None,
    test: float | None = None,
    validation: int = 0,
    root: Path | None = None,
    target: str | None = None,
    task: Literal["classification", "regression"] | None = None,
    chunk: int | None = None,
    session: FromSession,
) -> Reply:
    """Load a data set: iris, digits, mpg, mnist-5k, mnist, fashion-mnist, cifar10, FILE.npz, .csv.

    Parameters
    ----------
    name
        A bundled set (iris, digits, mpg, mnist-5k), one under --root (mnist, fashion-mnist,
        cifar10 in their official files), or a file: .npz with x_train, y_train, x_test, y_test
        (or x, y), or .csv with a header.
    train
        Take this many training examples, chosen at random under the seed.
    test
        The share held out for testing where the set has no test part of its own (0.2).
    validation
        Hold out this many examples that neither train nor test, to choose by: `goto best`.
    root
        The folder of mnist, fashion-mnist and cifar10.
    target
        The column of a .csv to predict.
    task
        classification or regression, where the targets do not tell.
    chunk
        Examples in one pass of the network (2048); smaller takes less memory.
    """
    if chunk is not None and chunk < 1:
        raise CommandError("--chunk must be at least 1")
    if name.endswith((".npz", ".csv")):
        name = str(session.find(Path(name)))
    root = session.find(root) if root is not None else None
    words = name if train is None else f"{name} --train {train}"
    words += f" --validation {validation}" if validation else ""
    from lsshell.engine.errors import NetworkMismatchError

    try:
        found = session.engine.load_data(
            words,
            name,
            chunk,
            train=train,
            test=test,
            validation=validation,
            root=root,
            target=target,
            task=task,
        )
    except NetworkMismatchError as e:
        raise CommandError(f"{e}; `new` begins a session with nothing loaded") from e
    values = {
        "name": found.name,
        "task": found.task,
        "train": len(found.x_train),
        "test": len(found.x_test),
        "shape": list(found.x_train.shape[1:]),
        "outputs": found.outputs,
        "sha256": found.digest,
        "notes": list(found.notes),
        **({"validation": validation} if validation else {}),
    }
    check = {k: v for k, v in values.items() if k not in ("notes", "shape", "name")}
    shape = "×".join(map(str, values["shape"]))
    first = (
        f"{found.name}: {values['train']} training and {values['test']} test examples of"
        f" {shape}, {found.task} with {found.outputs} output{'s' * (found.outputs != 1)}"
    )
    return Reply(values, "\n".join([first, *found.notes]), check)


@VOCABULARY.command("setup")
def model(
    name: str,
    /,
    *arguments: str,
    activation: Activation | None = None,
    session: FromSession,
    **options: str,
) -> Reply:
    """Build a network: one of the paper's five, mlp, cnn, or your own module:factory.

    The paper's are mnist-ff, mnist-conv, cifar10-conv, iris-ff and mpg-ff.

    `mlp 784-300-10` is a multilayer perceptron of these sizes; `cnn 20-20-d100` has 3×3
    convolutions of 20 channels, each with 2×2 average pooling, then a dense layer of 100;
    `mlp-bn` and `cnn-bn` have batch norm before every activation.
    `module:factory` calls your own function, found from the working directory as Python finds it.

    Parameters
    ----------
    name
        One of the names above.
    arguments
        Sizes, or positional arguments of the factory.
    activation
        Of mlp and cnn (tanh).
    options
        Keyword arguments of the factory: --width 3.
    """
    problem = session.engine.build_model((name, *arguments), activation, options, session.modules)
    return _network_reply(session, f"{' '.join((name, *arguments))}", problem)


def _network_reply(session: FromSession, name: str, problem: object) -> Reply:
    from lsshell.engine.networks import describe_network

    values = {
        "model": name,
        "parameters": problem.p,
        "device": session.engine.device,
        "dtype": session.engine.dtype,
        "notices": list(problem.notices),
        "theta": session.engine.theta_hash(),
    }
    check = {"parameters": problem.p, "theta": values["theta"]}
    text = f"{name}: {describe_network(problem.network)}, {values['device']}, {values['dtype']}"
    return Reply(values, "\n".join([text, *problem.notices]), check)


@VOCABULARY.command("work")
def train(
    *,
    epochs: int = 100,
    rate: float = 1e-3,
    batch: int = 32,
    until_loss: float | None = None,
    weight_decay: Annotated[float, Parameter(name="--weight-decay")] = 0.0,
    biases: Flag = False,
    session: FromSession,
) -> Reply:
    """Train from here by Adam on mini-batches, as the paper's first phase does.

    Parameters
    ----------
    epochs
        Passes over the training examples.
    rate
        Learning rate.
    batch
        Examples in a mini-batch.
    until_loss
        Stop as soon as the training loss is this low.
    weight_decay
        λ of a penalty λ·Σ w² on the weights, biases free.
    biases
        Penalise the biases too.
    """
    positive(epochs=epochs, rate=rate, batch=batch)
    if until_loss is not None and not until_loss > 0:
        raise CommandError("--until-loss must be above 0")
    if not 0.0 <= weight_decay < MOST:
        raise CommandError("--weight-decay must be a number from 0 on")
    result = session.engine.train(
        epochs=epochs if session.step_limit is None else min(epochs, session.step_limit),
        rate=rate,
        batch=batch,
        until_loss=until_loss,
        penalty=weight_decay,
        biases=biases,
    )
    point = session.engine.path.here
    values = {
        "epochs": result.epochs,
        "reason": result.reason,
        "point": point_values(point),
        "theta": session.engine.theta_hash(),
    }
    words = f"training loss {number(result.loss)}, {test_words(point)}"
    why = "" if result.reason == "epochs" else f" ({result.reason})"
    return Reply(
        values,
        f"{result.epochs} epochs{why}: {words}",
        interrupted=result.reason == "interrupted",
    )


@VOCABULARY.command("work")
def load(file: Path, /, *, session: FromSession) -> Reply:
    """Load a checkpoint: safetensors, a torch state dict, or a torch.export program.

    No code in the file is run. An exported program brings its own network; a checkpoint of
    lsshell's own names its network; others need `model` first.

    Parameters
    ----------
    file
        FILE.safetensors, .pt, .pth or .pt2.
    """
    found, before = session.find(file), session.engine.problem
    notes = session.engine.load(found)
    point = session.engine.path.here
    values = {
        "file": str(file),
        "notes": list(notes),
        "own_network": session.engine.problem is not before,
        "point": point_values(point),
        "theta": session.engine.theta_hash(),
    }
    check = {k: v for k, v in values.items() if k not in ("notes", "file")}
    words = f"{file.name}: training loss {number(point.loss)}, {test_words(point)}"
    notices = session.engine.ready().notices
    return Reply(values, "\n".join([words, *notes, *notices]), check)


@VOCABULARY.command("view")
def save(name: Path, /, *, session: FromSession) -> Reply:
    """Write the parameters here as safetensors, with what they are and where on which level set.

    Parameters
    ----------
    name
        NAME or NAME.safetensors.
    """
    if not name.name:
        raise CommandError("save needs a file's name")
    file = name if name.suffix == ".safetensors" else name.with_name(name.name + ".safetensors")
    target = session.writable(file)
    session.engine.save(target)
    values = {"file": str(target), "theta": session.engine.theta_hash()}
    return Reply(values, f"wrote {target}", {"theta": values["theta"]})
