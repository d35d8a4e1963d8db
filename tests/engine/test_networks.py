"""Networks: the published ones to the parameter, their initialisation, and the user's own."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lsshell.engine.errors import EngineError
from lsshell.engine.networks import build_network, describe_network
from lsshell.engine.vocabulary import ACTIVATIONS


@dataclass
class Data:
    """What build_network asks of a data set."""

    x_train: Tensor
    outputs: int
    task: str = "classification"
    name: str = "some-data"


def data(*shape: int, outputs: int = 10, task: str = "classification") -> Data:
    return Data(torch.zeros(2, *shape), outputs, task)


MNIST = data(1, 28, 28)
PUBLISHED = {
    "mnist-ff": (MNIST, 99_710),
    "mnist-conv": (MNIST, 54_930),
    "cifar10-conv": (data(3, 32, 32), 685_450),
    "iris-ff": (data(4, outputs=3), 31_103),
    "mpg-ff": (data(9, outputs=1, task="regression"), 31_401),
}


def parameters(network: nn.Module) -> Tensor:
    return torch.cat([q.detach().reshape(-1) for q in network.parameters()])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_number_of_parameters(name):
    on, count = PUBLISHED[name]
    network = build_network([name], on)
    assert sum(q.numel() for q in network.parameters()) == count
    assert network(on.x_train).shape == (2, on.outputs)
    assert any(isinstance(m, nn.Tanh) for m in network.modules())
    assert parameters(network).dtype == torch.float32


def test_mnist_conv_flattens_to_500_between_two_valid_convolutions_and_two_dense_layers():
    network = build_network(["mnist-conv"], MNIST)
    assert [tuple(q.shape) for q in network.parameters() if q.ndim > 1] == [
        (20, 1, 3, 3),
        (20, 20, 3, 3),
        (100, 500),
        (10, 100),
    ]
    kinds = [type(m).__name__ for m in network]
    assert kinds[:6] == ["Conv2d", "Tanh", "AvgPool2d"] * 2


def test_describe_network_says_kind_tensors_and_parameters():
    network = build_network(["mnist-ff"], MNIST)
    assert describe_network(network) == "Sequential, 8 tensors, 99 710 parameters"


# -- initialisation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "on", "layer", "fan_in", "fan_out"),
    [
        (["mlp", "784-400-10"], MNIST, 0, 784, 400),
        (["cnn", "64-64"], MNIST, 1, 64 * 9, 64 * 9),
    ],
)
def test_weights_are_glorot_normal_truncated_at_two_standard_deviations(
    spec, on, layer, fan_in, fan_out
):
    network = build_network(spec, on, seed=3)
    weight = [q for q in network.parameters() if q.ndim > 1][layer].detach().double()
    n, variance = weight.numel(), 2.0 / (fan_in + fan_out)
    # Before truncation the standard deviation is larger by 1/0.8796 (Keras's VarianceScaling).
    bound = 2.0 * math.sqrt(variance) / 0.87962566103423978
    assert weight.abs().max() <= bound * (1 + 1e-6)
    assert weight.abs().max() > 0.99 * bound
    assert weight.mean().abs() < 5 * math.sqrt(variance / n)
    assert weight.square().mean().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_weights_follow_the_truncated_normal_distribution():
    stats = pytest.importorskip("scipy.stats")
    weight = build_network(["mlp", "784-400-10"], MNIST)[1].weight.detach().double()
    std = math.sqrt(2.0 / 1184) / 0.87962566103423978
    assert stats.kstest(weight.flatten().numpy() / std, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3


def test_biases_are_zero():
    network = build_network(["cnn", "8-d16"], MNIST)
    biases = [q for q in network.parameters() if q.ndim == 1]
    assert len(biases) == 3
    assert all(torch.equal(b, torch.zeros_like(b)) for b in biases)


def test_layers_of_equal_shape_are_drawn_independently():
    network = build_network(["mnist-ff"], MNIST)
    second, third = network[3].weight.detach(), network[5].weight.detach()
    assert second.shape == third.shape
    correlation = torch.corrcoef(torch.stack([second.flatten(), third.flatten()]))[0, 1]
    assert correlation.abs() < 5 / math.sqrt(second.numel())


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        (["mlp-bn", "784-6-5-10"], ["Linear", "BatchNorm1d", "Tanh"] * 2 + ["Linear"]),
        (
            ["cnn-bn", "4-d6"],
            [
                "Conv2d",
                "BatchNorm2d",
                "Tanh",
                "AvgPool2d",
                "Flatten",
                "Linear",
                "BatchNorm1d",
                "Tanh",
                "Linear",
            ],
        ),
    ],
)
def test_batch_norm_stands_between_each_layer_and_its_activation(spec, kinds):
    network = build_network(spec, MNIST, seed=4)
    found = [type(m).__name__ for m in network]
    assert found[1:] == kinds if spec[0] == "mlp-bn" else found == kinds
    plain = build_network([spec[0].removesuffix("-bn"), spec[1]], MNIST, seed=4)
    weights = [[m.weight for m in n if isinstance(m, nn.Linear)] for n in (network, plain)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("spec", [["mnist-ff"], ["cnn", "4-d8"]])
def test_the_seed_alone_decides_the_network_and_global_random_state_is_left_alone(spec):
    before = torch.random.get_rng_state()
    first = parameters(build_network(spec, MNIST, seed=1))
    torch.manual_seed(99)
    again = parameters(build_network(spec, MNIST, seed=1))
    other = parameters(build_network(spec, MNIST, seed=2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.random.set_rng_state(before)
    build_network(spec, MNIST, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


# -- mlp and cnn ---------------------------------------------------------------------------------


def test_mlp_has_the_sizes_and_the_activation_asked_for():
    network = build_network(["mlp", "784-30-20-10"], MNIST, activation="relu")
    assert [type(m).__name__ for m in network] == [
        *("Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"),
    ]
    assert [tuple(q.shape) for q in network.parameters()][::2] == [(30, 784), (20, 30), (10, 20)]


def test_cnn_ends_in_the_outputs_of_the_data():
    on = data(3, 12, 12, outputs=7)
    network = build_network(["cnn", "4-6-d5-d9"], on, activation="gelu")
    # 12 → conv 10 → pool 5 → conv 3 → pool 1
    assert [tuple(q.shape) for q in network.parameters()][::2] == [
        (4, 3, 3, 3),
        (6, 4, 3, 3),
        (5, 6),
        (9, 5),
        (7, 9),
    ]
    assert network(on.x_train).shape == (2, 7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_vocabulary_is_known(activation):
    network = build_network(["mlp", "4-3-3"], data(4, outputs=3), activation=activation)
    assert type(network[2]).__name__.lower() == activation


def test_more_outputs_than_classes_are_allowed_for_classes_no_example_has():
    network = build_network(["mnist-ff"], data(1, 28, 28, outputs=9))
    assert network(MNIST.x_train).shape == (2, 10)


REGRESSION = data(9, outputs=1, task="regression")


@pytest.mark.parametrize(
    ("spec", "on", "said"),
    [
        ([], MNIST, ["mnist-ff"]),
        (["mnist-f"], MNIST, ["'mnist-f'", "did you mean mnist-ff?"]),
        (["mnist-ff", "3"], MNIST, ["takes no arguments", "'3'"]),
        (["mlp"], MNIST, ["mlp 784-300-10"]),
        (["mlp", "784", "10"], MNIST, ["one word", "'784 10'"]),
        (["mlp", "300"], MNIST, ["'300'", "784 inputs (1×28×28) and 10 classes"]),
        (["mlp", "784-0-10"], MNIST, ["'784-0-10'"]),
        (["mlp", "783-10"], MNIST, ["783 inputs", "some-data has 784 inputs (1×28×28)"]),
        (["mlp", "784-9"], MNIST, ["gives 9 outputs", "10 classes"]),
        (["mlp", "9-5-2"], REGRESSION, ["gives 2 outputs", "9 inputs and 1 targets"]),
        (["iris-ff"], MNIST, ["4 inputs", "784 inputs"]),
        (["mnist-conv"], data(3, 32, 32), ["1×28×28", "3×32×32"]),
        (["cifar10-conv"], data(3, 32, 32, outputs=100), ["10 outputs", "100 classes"]),
        (["cnn", "20-d10-20"], MNIST, ["'20-d10-20'", "20-20-d100"]),
        (["cnn", "20"], data(784), ["takes images", "784 inputs"]),
        (["cnn", "8-8-8"], data(1, 8, 8), ["too small", "3×3 is left"]),
        (["mlp", "784-99999999999999-10"], MNIST, ["does not fit in memory"]),
    ],
)
def test_what_does_not_fit_is_said_with_the_sizes_of_the_data(spec, on, said):
    with pytest.raises(EngineError) as error:
        build_network(spec, on)
    for part in said:
        assert part in str(error.value)


def test_unknown_activations_and_options_are_refused():
    with pytest.raises(EngineError, match=r"no activation 'rel'; did you mean relu\?"):
        build_network(["mlp", "784-10"], MNIST, activation="rel")
    with pytest.raises(EngineError, match="mnist-ff takes no option --width"):
        build_network(["mnist-ff"], MNIST, factory_options={"width": "3"})


# -- the user's own ------------------------------------------------------------------------------

FACTORY = """
import torch
from torch import nn
from layers import scaled

SEEN = []

class Small(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Linear(4, width)

def make(*words, **options):
    print("building")
    network = Small(words[0] if words else 4)
    network.seen = (words, options)
    return scaled(network)

def broken(x):
    y = x + 1
    raise KeyError("no such thing")

def text():
    return "a network"

def lazy():
    return nn.LazyLinear(3)

built = nn.Linear(2, 2)
constant = 3
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "zoo.py").write_text(FACTORY)
    (tmp_path / "layers.py").write_text("def scaled(network):\n    return network\n")
    (tmp_path / "pack" / "sub").mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "sub" / "__init__.py").write_text("")
    (tmp_path / "pack" / "sub" / "nets.py").write_text(
        "from torch import nn\nfrom ..tools import width\n\ndef make():\n"
        "    return nn.Linear(4, width())\n"
    )
    (tmp_path / "pack" / "tools.py").write_text("def width():\n    return 5\n")
    (tmp_path / "bad.py").write_text("from torch import nn\n\nimport not_there_at_all\n")
    (tmp_path / "wrong.py").write_text("x = 1\ndef make(:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit('bye')\n")
    return tmp_path


def build(spec, own: Path, **options) -> nn.Module:
    return build_network(spec.split(), MNIST, search=own, **options)


def test_a_factory_gets_its_arguments_as_numbers_truths_and_words(own, capsys):
    network = build(
        "zoo:make 6 0.5 true False wide 1e-3",
        own,
        factory_options={"drop-out": "0.25", "kind": "a"},
        activation="relu",
    )
    words, options = network.seen
    assert words == (6, 0.5, True, False, "wide", 1e-3)
    assert [type(word) for word in words] == [int, float, bool, bool, str, float]
    assert options == {"drop_out": 0.25, "kind": "a", "activation": "relu"}
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "building\n"


def test_a_class_of_modules_is_a_factory(own):
    assert build("zoo:Small 7", own).body.out_features == 7


def test_a_factory_is_found_in_packages_with_relative_imports_and_installed_ones(own):
    assert build("pack.sub.nets:make", own).out_features == 5
    assert build("torch.nn:Linear 3 2", own).out_features == 2


def test_the_working_directory_is_searched_by_default(own, monkeypatch):
    monkeypatch.chdir(own)
    assert isinstance(build_network(["zoo:Small"], MNIST), nn.Module)


def test_the_seed_decides_a_factorys_initialisation_and_global_state_is_left_alone(own):
    before = torch.random.get_rng_state()
    first = parameters(build("zoo:Small", own, seed=1))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(first, parameters(build("zoo:Small", own, seed=1)))
    assert not torch.equal(first, parameters(build("zoo:Small", own, seed=2)))


@pytest.mark.parametrize("spec", ["zoo:make", "zoo:broken 1", "bad:make"])
def test_the_import_system_is_left_as_it_was(own, spec):
    path, modules = list(sys.path), set(sys.modules)
    try:
        build(spec, own)
    except EngineError as e:
        assert spec != "zoo:make", e
    assert sys.path == path
    assert not {"zoo", "layers", "bad"} & (set(sys.modules) - modules)


def test_an_edited_file_counts_at_once(own):
    build("zoo:make", own)
    (own / "layers.py").write_text(
        "def scaled(network):\n    network.edited = True\n    return network\n"
    )
    assert build("zoo:make", own).edited


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("zo:make", ["no module 'zo'", "did you mean zoo?"]),
        ("zoo.inner:make", ["no module 'zoo.inner'"]),
        ("zoo:mak", ["zoo.py has no 'mak'", "did you mean make?"]),
        ("zoo:", ["MODULE:FACTORY"]),
        ("./zoo.py:make", ["MODULE:FACTORY", "no .py"]),
        ("zoo:broken 1", ["KeyError", "no such thing", "zoo.py:21"]),
        ("zoo:broken", ["TypeError", "'x'"]),
        ("zoo:text", ["returned str", "torch.nn.Module"]),
        ("zoo:lazy", ["has no values yet"]),
        ("zoo:built", ["not a factory"]),
        ("zoo:constant", ["is of type int, not a factory"]),
        ("bad:make", ["importing bad failed", "not_there_at_all", "bad.py:3"]),
        ("wrong:make", ["SyntaxError", "wrong.py:2"]),
        ("leaves:make", ["SystemExit", "bye", "leaves.py:2"]),
    ],
)
def test_every_failure_of_a_factory_is_one_message_that_says_where(own, spec, said):
    with pytest.raises(EngineError) as error:
        build(spec, own)
    for part in said:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
