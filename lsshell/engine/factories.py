"""`MODULE:FACTORY`: the one way in which a user's own code runs, because the user named it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lsshell.engine.errors import EngineError
from lsshell.engine.seeds import generator
from lsshell.engine.suggestions import did_you_mean


def call_factory(
    name: str, words: Sequence[str], options: Mapping[str, str], *, seed: int, search: Path
) -> nn.Module:
    """The network that the factory `name` = "module:factory" returns for these arguments.

    The module is found as Python finds it with `search` first on the path, read anew each time,
    and forgotten afterwards, so that an edited file counts at once. `words` are the positional
    and `options` the keyword arguments (`-` in a name read as `_`), each an int, float or bool
    where it reads as one. torch's random numbers start from `seed` inside and are untouched
    outside; what the code prints goes to standard error.

    Raises EngineError: no such module or factory, an exception in the user's code (its type,
    message, file and line), or something other than a torch.nn.Module with values in it.
    """
    module_name, _, factory_name = name.partition(":")
    if not factory_name.isidentifier() or not all(
        part.isidentifier() for part in module_name.split(".")
    ):
        raise EngineError(
            f"{name!r} is not of the form MODULE:FACTORY, as in mynetworks:small or "
            "package.module:Class (dots, no slashes, no .py)"
        )
    positional = [_value(word) for word in words]
    keywords = {key.replace("-", "_"): _value(word) for key, word in options.items()}
    with _user_code(search), _seeded(seed):
        module = _import(module_name, search)
        factory = _factory(module, factory_name)
        with _failures(f"{name} failed", search):
            network = factory(*positional, **keywords)
    if not isinstance(network, nn.Module):
        raise EngineError(f"{name} returned {type(network).__name__}, not a torch.nn.Module")
    unset = [key for key, q in network.named_parameters() if is_lazy(q) or q.is_meta]
    if unset:
        raise EngineError(
            f"{name} returned a network whose {unset[0]} has no values yet (a lazy layer, or the "
            "meta device): run one batch through it in the factory"
        )
    return network


def _value(word: str) -> bool | int | float | str:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word


@contextlib.contextmanager
def _user_code(search: Path) -> Iterator[None]:
    """`search` first on the path; afterwards the user's modules are forgotten."""
    entry = str(search.resolve())
    before = set(sys.modules)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        # Standard output belongs to the shell (--json promises nothing else there).
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
        for key in set(sys.modules) - before:
            if _is_users(getattr(sys.modules[key], "__file__", None), search):
                del sys.modules[key]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # CUDA's generators are saved only where CUDA is in use: asking for them would start it.
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cuda)):
        torch.manual_seed(generator(seed, "init").initial_seed())
        yield


@contextlib.contextmanager
def _failures(what: str, search: Path) -> Iterator[None]:
    """Turns whatever the user's code raises into an EngineError that says where."""
    try:
        yield
    except (Exception, SystemExit) as e:
        message = (str(e).splitlines() or [""])[0]
        raise EngineError(
            f"{what}: {type(e).__name__}{': ' if message else ''}{message}{_where(e, search)}"
        ) from None


def _import(name: str, search: Path) -> ModuleType:
    parents = {name[:i] for i, c in enumerate(name) if c == "."} | {name}
    with _failures(f"importing {name} failed", search):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as e:
            if e.name not in parents:
                raise
    here = [p.stem for p in search.glob("*.py")]
    here += [p.parent.name for p in search.glob("*/__init__.py")]
    raise EngineError(
        f"there is no module {name!r} in {search} or among the installed packages"
        f"{did_you_mean(name.partition('.')[0], here)}"
    )


def _factory(module: ModuleType, name: str) -> Callable[..., object]:
    if not hasattr(module, name):
        public = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise EngineError(
            f"{getattr(module, '__file__', module.__name__)} has no {name!r}"
            f"{did_you_mean(name, public)}"
        )
    factory = getattr(module, name)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise EngineError(
            f"{module.__name__}:{name} is of type {type(factory).__name__}, not a factory: name a "
            "function that returns a torch.nn.Module, or a class of them"
        )
    return factory


def _where(error: BaseException, search: Path) -> str:
    """` (file:line)` of the user's innermost frame, else of whoever was called; "" if neither."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__
        and not frame.filename.startswith("<frozen")
        and "importlib" not in Path(frame.filename).parts
    ]
    users = [frame for frame in frames if _is_users(frame.filename, search)] or frames
    return f" ({users[-1].filename}:{users[-1].lineno})" if users else ""


def _is_users(file: str | None, search: Path) -> bool:
    """In the user's folder, and not in a virtual environment that lies there as well."""
    if file is None:
        return False
    path = Path(file).resolve()
    installed = {"site-packages", "dist-packages"}.intersection(path.parts)
    return path.is_relative_to(search.resolve()) and not installed
