"""What can be opened, found out without torch; what a file says of itself is not trusted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsshell.engine.vocabulary import DATA_SETS
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.language import split_words
from lsshell.sessions.saved import (
    MOST_HEADER,
    lines_to_open,
    quoted,
    safetensors_metadata,
    saved_sessions,
)
from tests.sessions.conversation import SETUP, talk


def checkpoint(file: Path, metadata: object) -> Path:
    """A safetensors file of no tensors that says this of itself."""
    header = json.dumps({"__metadata__": metadata}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    return file


# -- quoting -----------------------------------------------------------------------------------


@given(st.text(min_size=1))
def test_a_quoted_path_is_read_back_as_one_word(text):
    path = Path(text)
    words = split_words(f"load {quoted(path)} --x", {"a": "b"})
    assert [w.text for w in words] == ["load", str(path), "--x"]


def test_a_plain_path_is_left_as_it_is():
    assert quoted(Path("runs/net-2.safetensors")) == "runs/net-2.safetensors"


@pytest.mark.parametrize("name", ["a b", "it's", "#1", "${x}", "a\\b", '"', "new\nline"])
def test_paths_with_signs_of_the_language_are_quoted(name):
    assert quoted(Path(name)) != name
    assert [w.text for w in split_words(quoted(Path(name)), {})] == [name]


# -- what a checkpoint says of itself ----------------------------------------------------------


def test_a_checkpoint_names_its_bundled_data_and_seed(tmp_path):
    file = checkpoint(tmp_path / "net.safetensors", {"data": "mnist-5k --train 1000", "seed": "7"})
    lines = ["seed 7", "data mnist-5k --train 1000", f"load {quoted(file)}"]
    assert lines_to_open(file, has_data=False) == lines
    assert lines_to_open(file, has_data=True) == lines[2:]


@pytest.mark.parametrize(
    "data",
    [
        "/etc/passwd.csv",
        "../iris.csv",
        "iris; quit",
        "iris\nquit",
        "iris --root /",
        "iris --train 10 --root /",
        "iris --train -1",
        "iris --train ${x}",
        "iris --train 1e3",
        "iris.npz",
        "Iris",
        "",
        " ",
    ],
)
def test_data_that_is_not_bundled_is_never_a_command(tmp_path, data):
    file = checkpoint(tmp_path / "net.safetensors", {"data": data, "seed": "3"})
    assert lines_to_open(file, has_data=False) == [f"load {quoted(file)}"]


@pytest.mark.parametrize("seed", ["x", "1; quit", "1\nquit", "-1", "", "${x}", "1 2", "0x1"])
def test_a_seed_that_is_no_number_is_never_a_command(tmp_path, seed):
    file = checkpoint(tmp_path / "net.safetensors", {"data": "iris", "seed": seed})
    assert lines_to_open(file, has_data=False) == ["data iris", f"load {quoted(file)}"]


WORDS = st.sampled_from(
    [*DATA_SETS, "--train", "--root", "10", "٣", "²", "a.csv", "\n", ";", "quit", "${x}", "#", "'"]
)


@given(
    st.lists(WORDS, max_size=5).map(" ".join) | st.text(max_size=30),
    st.text(max_size=5) | st.sampled_from(["1", "٣", "²", "99999999999999999999"]),
)
def test_whatever_a_checkpoint_says_only_bundled_data_and_a_seed_come_of_it(
    tmp_path_factory, data, seed
):
    file = tmp_path_factory.mktemp("file") / "net.safetensors"
    checkpoint(file, {"data": data, "seed": seed})
    *before, last = lines_to_open(file, has_data=False)
    assert last == f"load {quoted(file)}"
    for line in before:
        assert "\n" not in line and "\r" not in line
        words = split_words(line, {})
        VOCABULARY.parse(words)  # never a line that fails
        if words[0].text == "seed":
            assert len(words) == 2
        else:
            assert words[0].text == "data"
            assert words[1].text in DATA_SETS
            rest = [w.text for w in words[2:]]
            assert not rest or (rest[0] == "--train" and len(rest) == 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 8,
        (MOST_HEADER + 1).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"[1]]",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc",
        (20).to_bytes(8, "little") + b'{"__metadata__": [1]}',
        (24).to_bytes(8, "little") + b'{"__metadata__": "data"}',
    ],
)
def test_a_broken_checkpoint_says_nothing_of_itself(tmp_path, content):
    file = tmp_path / "net.safetensors"
    file.write_bytes(content)
    assert safetensors_metadata(file) == {}
    assert lines_to_open(file, has_data=False) == [f"load {quoted(file)}"]


def test_a_deeply_nested_header_says_nothing_of_itself(tmp_path):
    header = b'{"__metadata__":' + b"[" * 100_000
    file = tmp_path / "net.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert safetensors_metadata(file) == {}


def test_values_that_are_no_text_are_left_out(tmp_path):
    file = checkpoint(tmp_path / "net.safetensors", {"data": ["iris"], "seed": 3, "model": "mlp"})
    assert safetensors_metadata(file) == {"model": "mlp"}


def test_a_checkpoint_saved_by_lsshell_brings_its_data(tmp_path):
    talk(None, f"{SETUP}save {tmp_path / 'net'}", record=False)
    lines = lines_to_open(tmp_path / "net.safetensors", has_data=False)
    assert lines[:-1] == ["seed 3", "data iris"]


# -- what else can be opened -------------------------------------------------------------------


def test_each_kind_of_file_is_opened_by_its_command(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "session.lss").touch()
    opened = {
        "a.lss": "source",
        "a.csv": "data",
        "a.npz": "data",
        "a.pt": "load",
        "a.pth": "load",
        "a.pt2": "load",
        "s": "resume",
    }
    for name, command in opened.items():
        assert lines_to_open(tmp_path / name, has_data=False) == [f"{command} {tmp_path / name}"]
    assert lines_to_open(tmp_path / "s" / "session.lss", has_data=True) == [
        f"resume {tmp_path / 's'}"
    ]


def test_what_is_none_of_these_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match=r"a\.txt: neither a checkpoint"):
        lines_to_open(tmp_path / "a.txt", has_data=False)
    with pytest.raises(ValueError, match="holds no session"):
        lines_to_open(tmp_path, has_data=False)


# -- saved sessions ----------------------------------------------------------------------------


def session(root: Path, name: str, at: float, text: str) -> Path:
    (root / name).mkdir(parents=True)
    script = root / name / "session.lss"
    script.write_text(text)
    os.utime(script, (at, at))
    return root / name


def test_the_latest_sessions_come_first_with_their_last_commands(tmp_path):
    session(tmp_path, "old", 1000.0, "#: lsshell 1\nseed 1\n")
    session(tmp_path, "new", 3000.0, "seed 1\nwalk --steps 3\n#= steps 3\n#! resumed\n\n")
    session(tmp_path, "empty", 2000.0, "#: lsshell 1\n")
    (tmp_path / "no-session").mkdir()
    found = saved_sessions(tmp_path)
    assert [(s.folder.name, s.last) for s in found] == [
        ("new", "walk --steps 3"), ("empty", ""), ("old", "seed 1"),
    ]  # fmt: skip
    assert [s.folder.name for s in saved_sessions(tmp_path, 1)] == ["new"]


def test_there_are_no_sessions_where_there_is_no_folder(tmp_path):
    assert saved_sessions(tmp_path / "none") == []


def test_a_script_that_is_no_text_does_not_stop_the_list(tmp_path):
    folder = session(tmp_path, "torn", 1.0, "")
    (folder / "session.lss").write_bytes(b"seed 1\n\xff\xfe\x00")
    assert len(saved_sessions(tmp_path)) == 1


def test_none_of_this_imports_torch():
    code = "import lsshell.sessions.saved, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
