"""fr-data dedupe on drawn sets with known overlap, compared with numpy."""

import csv
import json
import subprocess

import numpy as np
import pytest

from driver import BIN_DIR, Network, embed, normalise

IMAGES = 3


def fr_data(*arguments, code=0):
    done = subprocess.run([BIN_DIR / "fr-data", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random weights: only the same pictures have cosine 1."""
    return Network(("y1", None, False), tmp_path_factory.mktemp("y1")).model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures of seven people `a`, and of four `b`, two of whom are in `a`, too; `twice` has one
    of `a` under two names."""
    root = tmp_path_factory.mktemp("sets")
    fr_data("synth", root / "drawn", "--identities", 9, "--images", IMAGES, "--holdout", 3, "--pairs",
            10)
    fr_data("unpack", root / "drawn", root / "pictures")
    people = sorted(path for path in (root / "pictures").iterdir() if path.is_dir())
    assert len(people) == 9
    sets = {"a": {f"person{i}": people[i] for i in range(7)},
            "b": {f"other{i}": people[i] for i in (5, 7, 2, 8)},
            "twice": {"x0": people[0], "x1": people[1], "x2": people[0], "x3": people[3]}}
    for name, identities in sets.items():
        for identity, source in identities.items():
            to = root / name / identity
            to.mkdir(parents=True)
            for number, picture in enumerate(sorted(source.iterdir())):
                (to / f"{number}.jpg").write_bytes(picture.read_bytes())
        fr_data("pack", root / name, root / f"{name}.set")
    return root


def centres(folder, model):
    """By name, as numpy computes them from fr-model's embeddings."""
    result = {}
    for identity in sorted(folder.iterdir()):
        pictures = sorted(identity.glob("*.jpg"))
        rows = normalise(embed(model, pictures, "--raw", "--no-mirror"))
        (identity / "embeddings.npy").unlink()
        result[identity.name] = normalise(rows.mean(axis=0, keepdims=True))[0]
    return result


def names(directory):
    return [line.split("\t")[1] for line in (directory / "identities.txt").read_text().splitlines()]


def images(directory, tmp_path, name):
    fr_data("unpack", directory, tmp_path / name)
    return sorted(path.read_bytes() for path in (tmp_path / name).rglob("*.jpg"))


def test_finds_those_of_another_set(folders, model, tmp_path):
    done = fr_data("dedupe", folders / "a.set", folders / "b.set", "--model", model, "--threshold",
                   0.9999, "--out", tmp_path / "clean", "--report", tmp_path / "report.csv")
    assert done.stdout.startswith("2 of 7 identities are in the other set, too")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert {(row["name"], row["other_name"]) for row in rows} == {
        ("person5", "other5"), ("person2", "other2")}
    assert names(tmp_path / "clean") == [f"person{i}" for i in (0, 1, 3, 4, 6)]
    assert (tmp_path / "clean/old_identities.txt").read_text() == (
        "0\t0\n1\t1\n2\t-\n3\t2\n4\t3\n5\t-\n6\t4\n")
    expected = sorted(path.read_bytes() for i in (0, 1, 3, 4, 6)
                      for path in (folders / f"a/person{i}").glob("*.jpg"))
    assert images(tmp_path / "clean", tmp_path, "unpacked") == expected


def test_cosines_are_numpys(folders, model, tmp_path):
    report = tmp_path / "report.json"
    fr_data("dedupe", folders / "a.set", folders / "b.set", "--model", model, "--threshold", 0.01,
            "--report", report)
    ours = {(row["name"], row["other_name"]): row["cosine"] for row in json.loads(report.read_text())}
    a, b = centres(folders / "a", model), centres(folders / "b", model)
    expected = {(x, y): float(a[x] @ b[y]) for x in a for y in b if a[x] @ b[y] >= 0.01}
    assert ours == pytest.approx(expected, abs=1e-4)


def test_one_set_without_its_own_duplicates(folders, model, tmp_path):
    common = (folders / "twice.set", "--model", model, "--threshold", 0.9999, "--centres",
              tmp_path / "centres")
    fr_data("dedupe", *common, "--out", tmp_path / "merged", "--policy", "merge")
    assert names(tmp_path / "merged") == ["x0", "x1", "x3"]
    assert (tmp_path / "merged/old_identities.txt").read_text() == "0\t0\n1\t1\n2\t0\n3\t2\n"
    assert len(images(tmp_path / "merged", tmp_path, "unpacked")) == 4 * IMAGES
    done = fr_data("dedupe", *common, "--out", tmp_path / "removed")
    assert "4 of 4 identities are in" in done.stderr  # the centres were kept
    assert done.stdout.startswith("2 of 4 identities are in the set more than once")
    assert names(tmp_path / "removed") == ["x0", "x1", "x3"]
    assert len(images(tmp_path / "removed", tmp_path, "rest")) == 3 * IMAGES


def test_goes_on_where_it_was_stopped(folders, model, tmp_path):
    arguments = ("dedupe", folders / "twice.set", "--model", model, "--threshold", 0.9999, "--report",
                 tmp_path / "report.csv")
    fr_data(*arguments)
    report = (tmp_path / "report.csv").read_bytes()
    file = tmp_path / "report.csv.centres/set.centres"
    whole = file.read_bytes()
    file.write_bytes(whole[:64 + (len(whole) - 64) // 2 + 5])  # stopped within a row
    assert "2 of 4 identities are in" in fr_data(*arguments).stderr
    assert file.read_bytes() == whole
    assert (tmp_path / "report.csv").read_bytes() == report


def test_mistakes_are_found_before_the_work(folders, model, tmp_path):
    a, b = folders / "a.set", folders / "b.set"
    out = ("--out", tmp_path / "out")
    assert "merge" in fr_data("dedupe", a, b, "--model", model, *out, "--policy", "merge",
                              code=2).stderr
    assert "FILE.csv" in fr_data("dedupe", a, "--model", model, "--report", tmp_path / "r.txt",
                                 code=2).stderr
    fr_data("dedupe", a, "--model", tmp_path / "nothing", code=1)
    fr_data("dedupe", tmp_path / "nothing", "--model", model, code=1)
    assert not (tmp_path / "out").exists()
