"""Reads what torch.save wrote, as data only: `weights_only=True` always."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError

# Where training scripts put the parameters among epoch, optimizer and the like.
_NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "params")
# What DataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
_ADVICE = "save a state dict (torch.save(network.state_dict(), FILE)) or safetensors instead"


def load_plain(data: bytes) -> Any:
    """torch.load of these bytes to the CPU, tensors and plain containers only.

    Raises EngineError where the pickle names anything else (it is not run) or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        named = re.search(r"GLOBAL ([\w.]+)", str(e))
        if named:
            raise EngineError(f"holds code (pickled class {named[1]}); {_ADVICE}") from None
        raise EngineError(
            f"is damaged, or a pickle that torch.save did not write; {_ADVICE}"
        ) from None
    except Exception as e:  # a damaged pickle can raise anything at all
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise EngineError(f"is truncated or damaged ({reason})") from None


def read_state_dict(data: bytes) -> dict[str, Tensor]:
    """The named tensors in the bytes of a torch.save file, zip or legacy.

    A plain dict of tensors, or one under `state_dict`, `model_state_dict`, `model`, `net`,
    `network` or `params`. Prefixes `module.` and `_orig_mod.` that every name carries are removed.
    """
    tensors = _named_tensors(load_plain(data))
    while tensors and any(all(n.startswith(w) and n != w for n in tensors) for w in _WRAPPERS):
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def _named_tensors(saved: Any) -> dict[str, Tensor]:
    if not isinstance(saved, Mapping):
        kind = "one tensor" if isinstance(saved, Tensor) else f"a {type(saved).__name__}"
        raise EngineError(f"holds {kind}, not tensors by name; {_ADVICE}")
    candidates = [saved, *(saved[key] for key in _NESTED if key in saved)]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate and _all_tensors(candidate):
            return dict(candidate)
    keys = ", ".join(str(key) for key in list(saved)[:8])
    raise EngineError(
        f"holds {keys or 'nothing'}, but no state dict, neither itself nor under "
        f"{', '.join(_NESTED)}; {_ADVICE}"
    )


def _all_tensors(candidate: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in candidate.items())
