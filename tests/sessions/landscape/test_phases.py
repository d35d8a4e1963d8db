"""The command `phases`: tables and pictures, errors, replay."""

import csv
import json
from pathlib import Path

import pytest

from tests.sessions.conversation import results, say, talk
from tests.sessions.test_interruptions import replayed

PUBLISHED = Path(__file__).parents[3] / "examples/landscape/data/taxonomy-resnet18-cifar10.csv"
FROM = f"phases --from {PUBLISHED}"


def failure(session, line):
    (outcome,) = say(session, line)
    assert outcome.failure is not None
    return outcome.failure.message


def test_the_published_table_comes_out_with_its_phases(tmp_path):
    session = talk(tmp_path / "said", "")
    (found,) = results(session, FROM)
    assert (found["cells"], found["connected"]) == (169, 67)
    assert found["best"] == {"width": 128.0, "batch_size": 44.0, "test_accuracy_pct": 89.908}
    assert found["phases"] == {
        "I": 56, "II": 33, "III": 20, "IV-A": 34, "IV-B": 26, "unknown": 0
    }  # fmt: skip
    assert found["sensitivity"]["similar"]["-20%"] == 31
    assert found["correlations"]["cka_softmax"]["connected"] == pytest.approx(0.875, abs=5e-4)
    (other,) = results(session, f"{FROM} --sharp 0 --barrier 100 --similar 0")
    assert other["phases"]["I"] == other["phases"]["III"] == other["phases"]["IV-A"] == 0
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_what_is_saved_is_read_again_to_the_same_result(tmp_path):
    session = talk(tmp_path / "said", "")
    file = tmp_path / "t.csv"
    (first,) = results(session, f"{FROM} --save {file}")
    (again,) = results(session, f"phases --from {file}")
    assert again == first
    rows = list(csv.DictReader(file.open()))
    assert list(rows[0])[:10] == PUBLISHED.read_text().splitlines()[0].split(",")
    assert rows[0]["phase"] == "I" and rows[0]["connectivity"] == "poorly connected"
    results(session, f"{FROM} --save {tmp_path / 't.json'}")
    assert json.loads((tmp_path / "t.json").read_text())[0]["curvature"] == "sharp"


def test_every_panel_is_drawn_with_the_hot_end_on_top(tmp_path):
    session = talk(tmp_path / "said", "")
    from lsshell.sessions.phase_plots import PANELS

    for panel in PANELS:
        (outcome,) = say(session, f"{FROM} --show {panel} --limits published")
        surface = outcome.reply.figure.surface
        assert (surface.y_ticks[0], surface.y_ticks[-1]) == ("1024", "16")
        assert (surface.x_ticks[0], surface.x_ticks[-1]) == ("2", "128")
        if panel == "connectivity":
            assert surface.diverging and surface.limits == (-30, 30)
            assert surface.z[-1][0] == -6.22
        if panel == "phases":
            assert surface.labels[-1][0] == "I" and surface.labels[0][-1] == "IV-A"
    (outcome,) = say(session, f"{FROM} --show connectivity")
    assert outcome.reply.figure.surface.limits is None


def test_pictures_are_written_with_all_panels_or_as_text_with_one(tmp_path):
    session = talk(tmp_path / "said", "")
    small = tmp_path / "small.csv"
    small.write_text("".join(PUBLISHED.read_text().splitlines(keepends=True)[:3]))
    line = f"phases --from {small} --out {tmp_path}"
    results(session, f"{line}/p.svg\n{line}/p.txt --show distance")
    assert (tmp_path / "p.svg").read_text().count("<image") >= 8
    assert "distance between networks" in (tmp_path / "p.txt").read_text()


def test_bad_words_are_refused_before_anything_is_written(tmp_path):
    session = talk(tmp_path / "said", "")
    out = tmp_path / "p.png"
    assert "no file" in failure(session, f"phases --from none.csv --out {out}")
    assert "--sharp" in failure(session, f"{FROM} --sharp nan --out {out}")
    assert "a table ends in" in failure(session, f"{FROM} --save t.xls --out {out}")
    assert "a figure ends in" in failure(session, f"{FROM} --out p.doc")
    assert not out.exists()
