"""Reads `torch.export` programs (.pt2) without running anything that the file holds.

`torch.export.load` is not used: it evaluates text from the file as Python (sizes through
sympy.sympify, guards through exec) and falls back to unrestricted unpickling (torch 2.13,
torch/_export/serde/serialize.py, torch/export/pt2_archive/_package.py). Here the graph is data:
a list of calls of known, side-effect-free tensor operators, which `ExportedNetwork` carries out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lsshell.engine.errors import EngineError
from lsshell.engine.exported_operators import (
    ADVICE,
    in_place,
    is_check,
    operator_named,
)
from lsshell.engine.torch_files import load_plain

# torch/_export/serde/schema.py, ScalarType and MemoryFormat.
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_STRIDED = 7

_TRAINING = (
    "was exported in training mode (dropout or batch statistics are part of the program); "
    "export it after network.eval()"
)


@dataclass(frozen=True)
class _Reference:
    """The value of this name in the graph."""

    name: str


class _InputDevice:
    """Where the program names a device: the one its input is on."""


@dataclass(frozen=True)
class _Call:
    function: Callable[..., Any]
    arguments: dict[str, Any]
    outputs: tuple[Any, ...]


@dataclass(frozen=True)
class _Program:
    """The graph: which tensors go in under which names, the calls, and the value that comes out."""

    tensors: tuple[tuple[str, str], ...]
    input: str
    input_sizes: tuple[int | None, ...]
    calls: tuple[_Call, ...]
    output: str


class ExportedNetwork(nn.Module):
    """The network of an exported program, with the names its tensors had, all trainable.

    Any batch size, if the program was exported with a dynamic first dimension; otherwise the
    forward pass raises RuntimeError, saying how to export it.
    """

    def __init__(self, program: _Program) -> None:
        super().__init__()
        self._program = program

    def forward(self, x: Tensor) -> Tensor:
        """x (n, …) → outputs, by the operators of the program in their order."""
        program = self._program
        self._check(x)
        tensors: dict[str, Tensor] = dict(self.named_parameters(remove_duplicate=False))
        tensors.update(self.named_buffers(remove_duplicate=False))
        values: dict[str, Any] = {name: tensors[key] for name, key in program.tensors}
        values[program.input] = x
        for call in program.calls:
            arguments = {k: _resolve(a, values, x.device) for k, a in call.arguments.items()}
            _assign(call.outputs, call.function(**arguments), values)
        return values[program.output]

    def _check(self, x: Tensor) -> None:
        batch, *sizes = self._program.input_sizes or (None,)
        if batch is not None:
            raise RuntimeError(
                f"it was exported for batches of exactly {batch}; export it with "
                "dynamic_shapes=({0: torch.export.Dim('batch')},)"
            )
        if len(sizes) != x.ndim - 1 or any(
            wanted not in (None, given) for wanted, given in zip(sizes, x.shape[1:], strict=True)
        ):
            shape = "×".join("any" if size is None else str(size) for size in sizes)
            raise RuntimeError(f"it was exported for inputs of {shape or 'one number'}")


def is_exported_program(names: Sequence[str]) -> bool:
    """Whether a zip archive with these entries is what torch.export.save writes (torch ≥ 2.6)."""
    return any(n == _OLD_GRAPH or n.endswith("/archive_format") for n in names)


def read_exported_program(data: bytes) -> ExportedNetwork:
    """The network in the bytes of a .pt2 file, in evaluation mode on the CPU.

    Raises EngineError for a program that is damaged, holds compiled code, was exported in
    training mode, does not map one tensor to one tensor, or calls an operator not known here.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            graph, weights, constants = _entries(archive)
        return _build(graph, weights, constants)
    except EngineError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as e:
        # The file is JSON of a layout that torch does not promise: anything may be amiss in it.
        reason = (str(e).splitlines() or [""])[0]
        raise EngineError(
            f"is an exported program that cannot be read ({type(e).__name__}: {reason}); it is "
            f"damaged or of another torch version: {ADVICE}"
        ) from None


# -- the archive ---------------------------------------------------------------------------------

_OLD_GRAPH = "serialized_exported_program.json"  # torch ≤ 2.7


def _entries(archive: zipfile.ZipFile) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    names = archive.namelist()
    if _OLD_GRAPH in names:
        state = load_plain(archive.read("serialized_state_dict.pt"))
        constants = load_plain(archive.read("serialized_constants.pt"))
        return json.loads(archive.read(_OLD_GRAPH)), state, constants
    root = next(n for n in names if n.endswith("/archive_format")).removesuffix("archive_format")
    if any(n.startswith(f"{root}data/aotinductor/") for n in names):
        raise EngineError(f"holds compiled code (AOTInductor), which is not run; {ADVICE}")
    models = [n for n in names if n.startswith(f"{root}models/") and n.endswith(".json")]
    if len(models) != 1:
        raise EngineError(f"holds {len(models)} exported programs, one is needed")
    model = models[0].removeprefix(f"{root}models/").removesuffix(".json")
    state = _tensors(archive, f"{root}data/weights/", model, "weights")
    constants = _tensors(archive, f"{root}data/constants/", model, "constants")
    return json.loads(archive.read(models[0])), state, constants


def _tensors(archive: zipfile.ZipFile, folder: str, model: str, kind: str) -> dict[str, Tensor]:
    pickled = f"{folder}{model}.pt"  # torch 2.8
    if pickled in archive.namelist():
        return load_plain(archive.read(pickled))
    config = json.loads(archive.read(f"{folder}{model}_{kind}_config.json"))["config"]
    shared: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for name, entry in config.items():
        if entry["use_pickle"] or entry["tensor_meta"]["layout"] != _STRIDED:
            raise EngineError(f"holds {name} as a pickled object, not as a tensor; {ADVICE}")
        # One entry and layout under two names is one tensor tied to both.
        key = json.dumps(entry, sort_keys=True)
        if key not in shared:
            shared[key] = _raw_tensor(archive.read(folder + entry["path_name"]), entry)
        tensors[name] = shared[key]
    return tensors


def _raw_tensor(raw: bytes, entry: dict[str, Any]) -> Tensor:
    meta = entry["tensor_meta"]
    dtype = _DTYPES[meta["dtype"]]
    sizes = [size["as_int"] for size in meta["sizes"]]
    strides = [stride["as_int"] for stride in meta["strides"]]
    flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    tensor = flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()
    return nn.Parameter(tensor) if entry["is_param"] and tensor.is_floating_point() else tensor


# -- the graph -----------------------------------------------------------------------------------


def _build(
    document: dict[str, Any], state: dict[str, Any], constants: dict[str, Any]
) -> ExportedNetwork:
    module = document["graph_module"]
    graph, signature = module["graph"], module["signature"]
    placed: dict[str, tuple[Tensor, bool, bool]] = {}
    bound: list[tuple[str, str]] = []
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, body),) = spec.items()
        if kind == "user_input" and "as_tensor" in body["arg"]:
            inputs.append(body["arg"]["as_tensor"]["name"])
            continue
        if kind not in ("parameter", "buffer", "tensor_constant"):
            raise EngineError(f"takes an input other than tensors ({kind}); {ADVICE}")
        key = body[f"{kind}_name"]
        tensor = state[key] if key in state else constants[key]
        placed[key] = (tensor, kind == "parameter", key in state)
        bound.append((body["arg"]["name"], key))
    outputs = signature["output_specs"]
    if any("mutation" in kind for spec in outputs for kind in spec):
        raise EngineError(_TRAINING)
    if len(inputs) != 1 or len(outputs) != 1 or "user_output" not in outputs[0]:
        raise EngineError(
            f"maps {len(inputs)} inputs to {len(outputs)} outputs; one tensor to one is needed"
        )
    output = outputs[0]["user_output"]["arg"]["as_tensor"]["name"]
    sizes = graph["tensor_values"][inputs[0]]["sizes"]
    program = _Program(
        tensors=tuple(bound),
        input=inputs[0],
        input_sizes=tuple(size.get("as_int") for size in sizes),
        calls=_calls(graph["nodes"], {name for name, _ in bound} | {inputs[0]}, output),
        output=output,
    )
    network = ExportedNetwork(program)
    for key, (tensor, trainable, persistent) in placed.items():
        _place(network, key, tensor, trainable=trainable, persistent=persistent)
    return network.eval()


def _place(root: nn.Module, key: str, tensor: Tensor, *, trainable: bool, persistent: bool) -> None:
    """Puts a tensor under its dotted name, with modules in between as needed."""
    *path, leaf = key.split(".")
    module = root
    for part in path:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    if trainable:
        parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
        module.register_parameter(leaf, parameter.requires_grad_())
    else:
        module.register_buffer(leaf, tensor.detach(), persistent=persistent)


def _calls(nodes: list[dict[str, Any]], given: set[str], output: str) -> tuple[_Call, ...]:
    known = set(given)
    calls = []
    for node in nodes:
        target = node["target"]
        if is_check(target):
            continue
        function = operator_named(target)
        arguments: dict[str, Any] = {}
        for argument in node["inputs"]:
            name, value = argument["name"], _argument(argument["arg"])
            if (name in ("train", "training") and value) or (name == "dropout_p" and value != 0):
                raise EngineError(_TRAINING)
            unknown = _names(value) - known
            if unknown:
                raise ValueError(f"{target} uses {unknown.pop()} before it is computed")
            arguments[name] = value
        if in_place(target) and _names(arguments.get("self")) & given:
            raise EngineError(
                f"changes its own weights, statistics or input ({target}), as networks do in "
                "training mode; export it after network.eval()"
            )
        results = tuple(_argument(result) for result in node["outputs"])
        known |= _names(list(results))
        calls.append(_Call(function, arguments, results))
    if output not in known:
        raise ValueError(f"its output {output} is never computed")
    return tuple(calls)


def _argument(argument: dict[str, Any]) -> Any:
    """A value of the serialised graph: constants as they are, names as _Reference."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string" | "as_int_lists":
            return value
        case "as_float":
            return float(value)
        case "as_floats":
            return [float(v) for v in value]
        case "as_tensor":
            return _Reference(value["name"])
        case "as_name":
            return _Reference(value)
        case "as_tensors":
            return [_Reference(v["name"]) for v in value]
        case "as_optional_tensor" | "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _argument(value)
        case "as_optional_tensors" | "as_sym_ints" | "as_sym_bools" | "as_sym_floats":
            return [_argument(v) for v in value]
        case "as_scalar_type":
            return _DTYPES[value]
        case "as_memory_format":
            return _MEMORY_FORMATS[value]
        case "as_layout" if value == _STRIDED:
            return torch.strided
        case "as_device":
            return _InputDevice
    raise EngineError(f"uses an argument of kind {kind}, which is not read from files; {ADVICE}")


def _names(value: Any) -> set[str]:
    if isinstance(value, _Reference):
        return {value.name}
    if isinstance(value, list):
        return set().union(*map(_names, value))
    return set()


def _resolve(value: Any, values: dict[str, Any], device: torch.device) -> Any:
    if isinstance(value, _Reference):
        return values[value.name]
    if isinstance(value, list):
        return [_resolve(v, values, device) for v in value]
    return device if value is _InputDevice else value


def _assign(names: tuple[Any, ...], result: Any, values: dict[str, Any]) -> None:
    """Binds what an operator returned: one value, one list of values, or several values."""
    if len(names) == 1 and isinstance(names[0], list):
        names = tuple(names[0])
    elif len(names) == 1:
        result = (result,)
    for name, value in zip(names, result, strict=True):
        if isinstance(name, _Reference):
            values[name.name] = value
