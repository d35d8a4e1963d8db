"""Checkpoints: every format read, nothing in them run, every misfit named."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lsshell.engine.checkpoints import (
    Checkpoint,
    apply_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def normalised(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2))
    net(torch.randn(8, 1, 6, 6))
    return net.eval()


def held(tensors: dict[str, Tensor], path: str = "some.pt") -> Checkpoint:
    return Checkpoint(Path(path), tensors, {}, None, "")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def said(call, *arguments) -> str:
    with pytest.raises(EngineError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return message


# -- reading state dicts -------------------------------------------------------------------------


def test_safetensors_are_read_with_metadata_and_digest(tmp_path):
    path, state = tmp_path / "weights.bin", network().state_dict()
    safetensors.torch.save_file(state, path, metadata={"what": "a test"})
    read = read_checkpoint(path)
    assert same(read.tensors, state)
    assert read.metadata == {"what": "a test"}
    assert read.network is None
    assert read.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.path == path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "net"])
def test_state_dicts_are_read_plain_or_nested_with_or_without_wrappers(
    tmp_path, zipped, prefix, key
):
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    saved = OrderedDict((prefix + k, v) for k, v in net.state_dict().items())
    if key:
        saved = {"epoch": 7, "optimizer": optimizer.state_dict(), "loss": 0.5, key: saved}
    torch.save(saved, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(tmp_path / "c.pt").tensors, net.state_dict())


def test_parameters_in_a_saved_dict_are_read_as_plain_tensors(tmp_path):
    net = network()
    torch.save(dict(net.named_parameters()), tmp_path / "c.pt")
    tensors = read_checkpoint(tmp_path / "c.pt").tensors
    assert same(tensors, net.state_dict())
    assert not any(isinstance(t, nn.Parameter) or t.requires_grad for t in tensors.values())


# -- refusals ------------------------------------------------------------------------------------


@dataclass
class Touches:
    """Pickles to a call that makes a file."""

    path: Path

    def __reduce__(self):
        return (os.system, (f"touch '{self.path}'",))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "protocol 4"])
def test_a_pickle_that_holds_code_is_refused_and_not_run(tmp_path, kind):
    made, path = tmp_path / "made", tmp_path / "c.pt"
    saved = {"state_dict": network().state_dict(), "extra": Touches(made)}
    if kind in ("zip", "legacy"):
        torch.save(saved, path, _use_new_zipfile_serialization=kind == "zip")
    else:
        path.write_bytes(pickle.dumps(Touches(made), protocol=4 if kind == "protocol 4" else 2))
    message = said(read_checkpoint, path)
    assert not made.exists()
    assert "save a state dict" in message
    assert "safetensors" in message
    if kind != "protocol 4":
        assert "holds code (pickled class posix.system)" in message
    pickle.loads(pickle.dumps(Touches(made)))  # the pickle does what it says, when run
    assert made.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickled_network_is_refused_by_name_with_advice(tmp_path, zipped):
    torch.save(network(), tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    message = said(read_checkpoint, tmp_path / "c.pt")
    assert "holds code (pickled class torch.nn.modules.container.Sequential)" in message
    assert "save a state dict" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_with_advice(tmp_path):
    torch.jit.save(torch.jit.trace(network(), torch.ones(1, 4)), tmp_path / "c.pt")
    message = said(read_checkpoint, tmp_path / "c.pt")
    assert "TorchScript archive, which holds code" in message
    assert "save a state dict" in message


def saved_as(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "safetensors":
        return safetensors.torch.save(network().state_dict())
    torch.save(network().state_dict(), buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("kept", [1, 5, 8, 9, 40, 0.3, 0.6, 0.9, -100, -1])
def test_a_truncated_file_is_refused_at_every_length(tmp_path, kind, kept):
    data = saved_as(kind)
    length = int(kept * len(data)) if isinstance(kept, float) else kept % len(data)
    suffix = ".safetensors" if kind == "safetensors" else ".pt"
    path = tmp_path / f"c{suffix}"
    path.write_bytes(data[:length])
    message = said(read_checkpoint, path)
    assert str(path) in message
    assert "truncated" in message or "damaged" in message


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_damaged_file_is_refused_or_read_but_never_a_traceback(tmp_path, kind):
    data, path = bytearray(saved_as(kind)), tmp_path / "c.pt"
    source = np.random.default_rng(0)
    refused = 0
    for place in source.integers(len(data), size=150):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except EngineError as e:
            assert str(path) in str(e)
            refused += 1
    assert refused > 20


def test_a_flipped_byte_in_the_weights_of_a_zip_is_noticed(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(network().state_dict(), path)
    weight = network()[0].weight.detach().numpy().tobytes()
    data = path.read_bytes()
    place = data.index(weight) + 1  # a low byte of the mantissa: the value stays finite
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert "damaged" in said(read_checkpoint, path)


def test_a_zip_saved_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(network().state_dict(), tmp_path / "c.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_checkpoint(tmp_path / "c.pt").tensors, dict(network().state_dict()))


def test_files_that_are_no_checkpoints_are_refused_with_what_they_are(tmp_path):
    path = tmp_path / "c.pt"
    assert said(read_checkpoint, path) == f"there is no file {path}"
    path.write_bytes(b"")
    assert said(read_checkpoint, path) == f"{path} is empty"
    path.write_text("a,b\n1,2\n")
    assert "is no checkpoint" in said(read_checkpoint, path)
    assert "is a folder" in said(read_checkpoint, tmp_path)
    np.savez(tmp_path / "d.npz", x=np.ones(3))
    assert "NumPy archive" in said(read_checkpoint, tmp_path / "d.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "is a zip archive, but" in said(read_checkpoint, path)


@pytest.mark.parametrize(
    ("saved", "part"),
    [
        (torch.ones(3), "holds one tensor"),
        ([torch.ones(3)], "holds a list"),
        ({}, "no state dict"),
        ({"epoch": 3, "weights_of_mine": {"a": torch.ones(1)}}, "epoch, weights_of_mine"),
        ({"a": torch.ones(1), "b": 3}, "no state dict"),
        ({"a": torch.eye(3).to_sparse()}, "sparse"),
        ({"a": torch.empty(3, device="meta")}, "valueless"),
    ],
)
def test_saved_things_without_named_dense_tensors_are_refused(tmp_path, saved, part):
    torch.save(saved, tmp_path / "c.pt")
    assert part in said(read_checkpoint, tmp_path / "c.pt")


def test_safetensors_without_tensors_are_refused(tmp_path):
    safetensors.torch.save_file({}, tmp_path / "c.safetensors")
    assert "holds no tensors" in said(read_checkpoint, tmp_path / "c.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_nan_and_infinity_are_refused_naming_the_tensors(tmp_path, value, dtype):
    state = {k: v.to(dtype) for k, v in network().state_dict().items()}
    state["2.weight"][1, 2] = value
    torch.save(state, tmp_path / "c.pt")
    message = said(read_checkpoint, tmp_path / "c.pt")
    assert "NaN or infinite values in 2.weight" in message
    assert "0.weight" not in message


# -- applying ------------------------------------------------------------------------------------


def test_values_are_copied_into_the_networks_own_tensors_also_where_they_are_views():
    net, source = network(0), network(1).state_dict()
    flat = torch.cat([q.detach().reshape(-1) for q in net.parameters()])
    offset = 0
    for q in net.parameters():
        q.data = flat[offset : offset + q.numel()].view(q.shape)
        offset += q.numel()
    objects = list(net.parameters())
    assert apply_checkpoint(held(source), net) == ()
    assert all(a is b for a, b in zip(net.parameters(), objects, strict=True))
    assert torch.equal(flat, torch.cat([t.reshape(-1) for t in source.values()]))


def test_missing_unexpected_and_misshapen_tensors_are_named_and_nothing_changes():
    net, source = network(0), dict(network(1).state_dict())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    del source["0.bias"]
    source["4.weight"] = torch.zeros(10, 3)
    source["2.weight"] = torch.zeros(3, 6)
    message = said(apply_checkpoint, held(source), net)
    assert message == (
        "some.pt does not fit the network: 1 missing: 0.bias (5); 1 unexpected: 4.weight (10×3); "
        "1 of another shape: 2.weight is 3×6, the network's is 3×5"
    )
    assert same(before, dict(net.state_dict()))


def test_long_lists_of_faults_are_cut_with_their_count():
    source = {**network().state_dict(), **{f"extra{i}": torch.zeros(2) for i in range(9)}}
    message = said(apply_checkpoint, held(source), network())
    assert "9 unexpected: extra0 (2), " in message
    assert "extra5" in message
    assert "extra6" not in message
    assert message.endswith("and 3 more")


def test_tensors_that_are_not_floating_point_are_refused():
    source = dict(network().state_dict())
    source["0.bias"] = torch.zeros(5, dtype=torch.int64)
    message = said(apply_checkpoint, held(source), network())
    assert "1 of another type: 0.bias is int64, the network's is float32" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_converted_and_it_is_said(dtype):
    net, source = network(0), network(1).state_dict()
    stored = {k: v.to(dtype) for k, v in source.items()}
    name = str(dtype).removeprefix("torch.")
    assert apply_checkpoint(held(stored), net) == (f"converted from {name} to float32",)
    assert same(dict(net.state_dict()), {k: v.float() for k, v in stored.items()})


def test_values_too_large_for_the_networks_type_are_refused():
    net, source = network(), {k: v.double() for k, v in network(1).state_dict().items()}
    before = net[0].weight.detach().clone()
    source["2.bias"][0] = 1e300
    assert "2.bias is too large for float32" in said(apply_checkpoint, held(source), net)
    assert torch.equal(net[0].weight, before)


@pytest.mark.parametrize("prefix", ["net.", "model.", "backbone.inner."])
def test_a_prefix_of_all_names_is_set_aside_and_it_is_said(prefix):
    net, source = network(0), network(1).state_dict()
    notes = apply_checkpoint(held({prefix + k: v for k, v in source.items()}), net)
    assert notes == (f"the prefix {prefix!r} of the checkpoint's names was set aside",)
    assert same(dict(net.state_dict()), dict(source))


def test_a_prefix_of_the_networks_names_is_set_aside_as_well():
    wrapped = nn.ModuleDict({"module": network(0)})
    notes = apply_checkpoint(held(dict(network(1).state_dict())), wrapped)
    assert notes == ("the prefix 'module.' of the network's names was set aside",)
    assert same(dict(wrapped["module"].state_dict()), dict(network(1).state_dict()))


def test_a_prefix_is_not_set_aside_where_names_would_still_differ():
    source = {"net." + k: v for k, v in network().state_dict().items()}
    del source["net.0.bias"]
    message = said(apply_checkpoint, held(source), network())
    assert "4 missing" in message
    assert "3 unexpected: net.0.weight (5×4)" in message


def test_batch_norm_statistics_are_loaded_and_the_count_may_be_missing():
    net, source = normalised(0), dict(normalised(1).state_dict())
    assert "1.running_mean" in source
    source["1.num_batches_tracked"] += 5
    apply_checkpoint(held(source), net)
    assert same(dict(net.state_dict()), source)
    del source["1.num_batches_tracked"]
    assert apply_checkpoint(held(source), normalised(2)) == ()
    del source["1.running_var"]
    assert "1 missing: 1.running_var (3)" in said(apply_checkpoint, held(source), normalised(2))


def test_the_second_name_of_a_tied_tensor_may_be_missing():
    def tied(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
        net[2].weight = net[0].weight
        return net

    net, source = tied(0), tied(1).state_dict()
    apply_checkpoint(held({k: v for k, v in source.items() if k != "2.weight"}), net)
    assert same(dict(net.state_dict()), dict(source))


# -- writing -------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_with_its_metadata(tmp_path):
    flat = torch.arange(12.0)
    views = {"a": flat[:6].view(2, 3), "b": flat[6:], "c": flat[:6].view(2, 3).t()}
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, views, {"level": "0.01"})
    read = read_checkpoint(path)
    assert same(read.tensors, views)
    assert read.metadata == {"level": "0.01"}
    write_checkpoint(path, {"a": torch.zeros(1)}, {})
    assert list(read_checkpoint(path).tensors) == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_what_cannot_be_written_is_said_and_leaves_nothing_behind(tmp_path, monkeypatch):
    tensors = {"a": torch.zeros(1)}
    missing = tmp_path / "none" / "c.safetensors"
    assert f"no folder {missing.parent}" in said(write_checkpoint, missing, tensors, {})
    (tmp_path / "folder").mkdir()
    assert "cannot write" in said(write_checkpoint, tmp_path / "folder", tensors, {})
    (tmp_path / "old").write_text("kept")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in said(write_checkpoint, tmp_path / "old", tensors, {})
    assert (tmp_path / "old").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "old"]


# -- exported programs ---------------------------------------------------------------------------


class Exported(nn.Module):
    """Convolution, batch norm, dropout, tied weights, constants, and arithmetic on sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.first = nn.Linear(36, 36, bias=False)
        self.second = nn.Linear(36, 36)
        self.second.weight = self.first.weight
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(36, 3)
        self.register_buffer("shift", torch.full((36,), 0.1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).view(x.shape[0] * 4, -1).reshape(x.shape[0], -1)
        a, b = (self.first(x) + self.shift).chunk(2, dim=1)
        x = nn.functional.gelu(torch.cat([b, a], 1), approximate="tanh")
        return self.head(self.drop(self.second(x))) + torch.tensor([1.0, 2.0, 3.0])


def export(net: nn.Module, *, batch: str | None = "dynamic") -> bytes:
    shapes = ({0: torch.export.Dim("batch")},) if batch else None
    program = torch.export.export(net, (torch.randn(4, 1, 5, 5),), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def source() -> Exported:
    torch.manual_seed(0)
    net = Exported()
    net(torch.randn(16, 1, 5, 5))
    return net.eval()


@pytest.fixture(scope="module")
def program(source) -> bytes:
    return export(source)


@pytest.fixture
def pt2(tmp_path, program) -> Path:
    (tmp_path / "net.pt2").write_bytes(program)
    return tmp_path / "net.pt2"


def edited(data: bytes, edit) -> bytes:
    """The archive with edit(name, content) in place of every entry; None leaves one out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = edit(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return buffer.getvalue()


def is_graph(name: str) -> bool:
    return name.endswith(("models/model.json", "serialized_exported_program.json"))


def test_an_exported_program_brings_a_network_that_computes_the_same(source, pt2):
    read = read_checkpoint(pt2)
    x = torch.randn(7, 1, 5, 5)
    torch.testing.assert_close(read.network(x), source(x))
    assert same(read.tensors, dict(source.state_dict()))
    ours, theirs = dict(read.network.named_parameters()), dict(source.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(q.requires_grad for q in ours.values())
    grads = [
        torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
        for net in (read.network, source)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_an_exported_network_follows_its_parameters_in_another_precision(source, pt2):
    read = read_checkpoint(pt2)
    changed = Exported().eval()
    assert apply_checkpoint(held(dict(changed.state_dict())), read.network) == ()
    x = torch.randn(3, 1, 5, 5)
    torch.testing.assert_close(read.network(x), changed(x))
    torch.testing.assert_close(read.network.double()(x.double()), changed.double()(x.double()))
    assert same(read.tensors, dict(source.state_dict()))  # copies, not the network's own


@dataclass
class Data:
    """What Problem asks of a data set."""

    x_train: Tensor
    y_train: Tensor
    name: str = "points"
    task: str = "classification"
    outputs: int = 3
    x_validation: None = None
    y_validation: None = None

    @property
    def x_test(self) -> Tensor:
        return self.x_train

    @property
    def y_test(self) -> Tensor:
        return self.y_train


def test_an_exported_network_makes_a_problem_of_the_same_loss(source, pt2):
    data = Data(torch.randn(20, 1, 5, 5), torch.arange(20) % 3)
    problem = Problem(read_checkpoint(pt2).network, data, chunk=7)
    loss, gradient = problem.loss_and_gradient(problem.theta.clone())
    expected = nn.functional.cross_entropy(source(data.x_train), data.y_train)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_program_for_one_batch_size_or_other_inputs_is_refused_with_advice(tmp_path, source, pt2):
    fixed = tmp_path / "fixed.pt2"
    fixed.write_bytes(export(source, batch=None))
    data = Data(torch.randn(20, 1, 5, 5), torch.arange(20) % 3)
    message = said(Problem, read_checkpoint(fixed).network, data)
    assert "exported for batches of exactly 4" in message
    assert "dynamic_shapes=({0: torch.export.Dim('batch')},)" in message
    wide = Data(torch.randn(20, 1, 6, 6), torch.arange(20) % 3)
    assert "inputs of 1×5×5" in said(Problem, read_checkpoint(pt2).network, wide)


def test_a_program_exported_in_training_mode_is_refused(tmp_path):
    path = tmp_path / "net.pt2"
    for layers in ([nn.Dropout(0.5)], [nn.BatchNorm2d(1), nn.Flatten()]):
        path.write_bytes(export(nn.Sequential(*layers, nn.Flatten(), nn.Linear(25, 3)).train()))
        assert "export it after network.eval()" in said(read_checkpoint, path)


def test_text_of_a_program_that_torch_would_evaluate_is_not_run(tmp_path, program):
    made, path = tmp_path / "made", tmp_path / "net.pt2"
    attack = f"__import__('os').system('touch {made}')"

    def poison(name: str, content: bytes) -> bytes:
        if not is_graph(name):
            return content
        document = json.loads(content, object_hook=poison_size)
        document["guards_code"] = [attack]
        return json.dumps(document).encode()

    def poison_size(entry: dict) -> dict:
        return entry | {"expr_str": attack} if "expr_str" in entry else entry

    path.write_bytes(edited(program, poison))
    assert attack.encode() in path.read_bytes()
    read_checkpoint(path).network(torch.zeros(2, 1, 5, 5))
    assert not made.exists()


def test_pickles_inside_a_program_are_not_run(tmp_path, program):
    made, path = tmp_path / "made", tmp_path / "net.pt2"
    buffer = io.BytesIO()
    torch.save({"a": Touches(made)}, buffer)
    stored = "weights", "constants", "sample_inputs", "serialized"

    def poison(name: str, content: bytes) -> bytes:
        if name.endswith("_config.json"):
            document = json.loads(content)
            for entry in document["config"].values():
                entry["use_pickle"] = True
            return json.dumps(document).encode()
        return buffer.getvalue() if any(part in name for part in stored) else content

    path.write_bytes(edited(program, poison))
    message = said(read_checkpoint, path)
    assert "pickled" in message
    assert not made.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.gelu.out",
        "torch.ops.aten.gelu.__class__",
        "torch.ops.higher_order.cond",
        "os.system",
        "torch.os.system",
        "_operator.pow",
    ],
)
def test_operators_a_file_may_not_choose_are_refused_by_name(tmp_path, program, target):
    def replace(name: str, content: bytes) -> bytes:
        if not is_graph(name):
            return content
        assert b"torch.ops.aten.gelu.default" in content
        return content.replace(b"torch.ops.aten.gelu.default", target.encode())

    path = tmp_path / "net.pt2"
    path.write_bytes(edited(program, replace))
    assert f"uses the operator {target}, which is not read" in said(read_checkpoint, path)


@pytest.mark.parametrize("part", ["weights_config", "weight_", "model.json", "everything"])
def test_a_program_with_a_part_missing_or_damaged_is_refused(tmp_path, program, part):
    path = tmp_path / "net.pt2"
    path.write_bytes(edited(program, lambda name, content: None if part in name else content))
    if part == "everything":
        path.write_bytes(program[: len(program) // 2])
    assert str(path) in said(read_checkpoint, path)


def test_nan_in_a_program_is_refused(tmp_path, source, program):
    weight = source.head.weight.detach().numpy().tobytes()
    assert weight in program
    nan = np.full(108, np.nan, np.float32).tobytes()
    path = tmp_path / "net.pt2"
    path.write_bytes(edited(program, lambda name, content: content.replace(weight, nan)))
    assert "NaN or infinite values in head.weight" in said(read_checkpoint, path)


@pytest.mark.parametrize("length", [640, 896, 1152])
def test_a_safetensors_header_whose_length_looks_like_a_pickle_is_read(tmp_path, length):
    import safetensors.torch

    tensors = {"w": torch.arange(3.0)}
    for padding in range(2 * length):
        data = safetensors.torch.save(tensors, {"padding": "x" * padding})
        if int.from_bytes(data[:8], "little") == length:
            break
    assert data[0] == 0x80
    (tmp_path / "c.safetensors").write_bytes(data)
    assert torch.equal(read_checkpoint(tmp_path / "c.safetensors").tensors["w"], tensors["w"])
