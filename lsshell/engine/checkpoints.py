"""Trained parameters on disk: reading them safely, putting them into a network, writing them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lsshell.engine.errors import EngineError
from lsshell.engine.exported_programs import is_exported_program, read_exported_program
from lsshell.engine.torch_files import read_state_dict
from lsshell.engine.weight_names import match_names

_NAMED_AT_MOST = 6
_HEADER_LIMIT = 100_000_000  # safetensors' own limit, in bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: named tensors on the CPU, and a network where the file brings its own.

    `metadata` is that of a safetensors file, `digest` the SHA-256 of the file in hexadecimal.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    network: nn.Module | None
    digest: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads safetensors, torch state dicts (see `torch_files`) and torch.export programs.

    The kind is told by the content, not the name. Nothing in the file is run. Raises EngineError
    for a file that is missing, empty, truncated, damaged, of another kind, that holds code
    (pickled objects, TorchScript, compiled programs), or whose tensors are not all finite.
    """
    data = _read(path)
    metadata: dict[str, str] = {}
    network = None
    try:
        match _kind(data):
            case "safetensors":
                tensors, metadata = _read_safetensors(data)
            case "exported program":
                network = read_exported_program(data)
                tensors = {k: v.clone() for k, v in network.state_dict().items()}
            case "torch":
                tensors = read_state_dict(data)
            case _ if path.suffix == ".safetensors":
                raise EngineError("is truncated or damaged: it does not begin as safetensors do")
            case _:
                raise EngineError(
                    "is no checkpoint: neither safetensors, nor written by torch.save or "
                    "torch.export.save; or its beginning is damaged"
                )
        _check_values(tensors)
    except EngineError as e:
        raise EngineError(f"{path} {e}") from None
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    return Checkpoint(path, tensors, metadata, network, hashlib.sha256(data).hexdigest())


def apply_checkpoint(checkpoint: Checkpoint, network: nn.Module) -> tuple[str, ...]:
    """Copies the tensors into the network's own (which may be views); returns notes for people.

    Names must be the network's, but for a prefix that all of them carry on either side, and but
    for `num_batches_tracked` and second names of tied tensors, which may be missing. Values are
    converted to the network's floating type. Raises EngineError, with nothing changed, naming
    the missing, unexpected and misshapen tensors, those that are not floating-point where the
    network's are, and those too large for its type.
    """
    wanted = {k: v for k, v in network.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    names, notes = match_names(checkpoint.tensors, wanted)
    faults = _faults(checkpoint.tensors, wanted, names)
    if faults:
        raise EngineError(f"{checkpoint.path} does not fit the network: {'; '.join(faults)}")
    values = {own: checkpoint.tensors[saved].to(wanted[own].dtype) for own, saved in names.items()}
    large = [own for own, value in values.items() if not _finite(value)]
    if large:
        raise EngineError(
            f"{checkpoint.path}: {_list(large)} {_are(large)} too large for "
            f"{_dtype(wanted[large[0]])}; use float64"
        )
    with torch.no_grad():
        for own, value in values.items():
            wanted[own].copy_(value)
    pairs = {
        (_dtype(checkpoint.tensors[saved]), _dtype(wanted[own]))
        for own, saved in names.items()
        if wanted[own].is_floating_point()
    }
    conversions = [f"converted from {a} to {b}" for a, b in sorted(pairs) if a != b]
    return (*notes, *conversions)


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    durable: bool = True,
) -> None:
    """Writes safetensors with metadata, whole or not at all (temporary name, then os.replace).

    `durable` waits for the disk: the file survives a power cut, not only the end of this process.
    Raises EngineError where the folder is missing or cannot be written.
    """
    # Cloned, because safetensors refuses tensors that are views of one buffer.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain, metadata=dict(metadata))
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except FileNotFoundError:
        raise EngineError(f"cannot write {path}: there is no folder {path.parent}") from None
    except OSError as e:
        raise EngineError(f"cannot write {path}: {e.strerror or e}") from None
    finally:
        temporary.unlink(missing_ok=True)


# -- reading -------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise EngineError(f"{path} is a folder; name a checkpoint file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise EngineError(f"there is no file {path}") from None
    except OSError as e:
        raise EngineError(f"cannot read {path}: {e.strerror or e}") from None
    if not data:
        raise EngineError(f"{path} is empty")
    return data


def _kind(data: bytes) -> str | None:
    if data.startswith(b"PK"):
        return _zip_kind(data)
    # Before pickles: a header of 640 bytes, say, starts with a pickle's first byte.
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _HEADER_LIMIT:
        return "safetensors"
    if data.startswith(b"\x80"):  # a pickle of protocol 2 or later: torch.save's legacy files
        return "torch"
    return None


def _zip_kind(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            for entry in archive.infolist():
                if entry.CRC:  # 0 is what torch.serialization.set_crc32_options(False) leaves
                    archive.read(entry)  # compares the checksum, as torch.load does not
    except Exception as e:  # a damaged archive can raise anything at all
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise EngineError(f"is a truncated or damaged zip archive ({reason})") from None
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise EngineError(
            "is a TorchScript archive, which holds code; save a state dict "
            "(torch.save(network.state_dict(), FILE)) or safetensors instead"
        )
    if is_exported_program(names):
        return "exported program"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "torch"
    if any(name.endswith(".npy") for name in names):
        raise EngineError("is a NumPy archive: data, not a checkpoint; `data FILE` reads it")
    raise EngineError("is a zip archive, but neither torch.save nor torch.export.save wrote it")


def _read_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    length = int.from_bytes(data[:8], "little")
    try:
        tensors = safetensors.torch.load(data)
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, KeyError, ValueError, RuntimeError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise EngineError(f"is truncated or damaged safetensors ({reason})") from None
    if metadata.get("format", "").startswith("lsshell path"):
        raise EngineError("is the export of a path, not a checkpoint: `save` at a point writes one")
    return tensors, metadata


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    if not tensors:
        raise EngineError("holds no tensors")
    odd = [
        name
        for name, tensor in tensors.items()
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta
    ]
    if odd:
        raise EngineError(
            f"holds sparse, quantised or valueless tensors: {_list(odd)}; save dense ones"
        )
    infinite = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if infinite:
        raise EngineError(
            f"holds NaN or infinite values in {_list(infinite)}; it is of no use here"
        )


def _finite(tensor: Tensor) -> bool:
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()  # the 8-bit types have no isfinite
    return bool(tensor.isfinite().all())


# -- faults --------------------------------------------------------------------------------------


def _faults(
    saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Mapping[str, str]
) -> list[str]:
    """What keeps `saved` from going into `wanted`, `names` mapping the latter's to the former's."""
    used = set(names.values())
    tied = {id(wanted[own]) for own in names}
    missing = [
        f"{name} ({_by(tensor.shape)})"
        for name, tensor in wanted.items()
        if id(tensor) not in tied and name.rpartition(".")[2] != "num_batches_tracked"
    ]
    unexpected = [f"{n} ({_by(t.shape)})" for n, t in saved.items() if n not in used]
    misshapen = [
        f"{own} is {_by(saved[n].shape)}, the network's is {_by(wanted[own].shape)}"
        for own, n in names.items()
        if saved[n].shape != wanted[own].shape
    ]
    mistyped = [
        f"{own} is {_dtype(saved[n])}, the network's is {_dtype(wanted[own])}"
        for own, n in names.items()
        if saved[n].is_floating_point() != wanted[own].is_floating_point()
    ]
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": misshapen,
        "of another type": mistyped,
    }
    return [f"{len(found)} {kind}: {_list(found)}" for kind, found in kinds.items() if found]


def _list(items: Sequence[str]) -> str:
    more = len(items) - _NAMED_AT_MOST
    return ", ".join(items[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
