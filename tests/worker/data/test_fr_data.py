"""fr-data as people use it: what its commands print, write and refuse."""

import json
import os
import pathlib
import pickle
import re
import resource
import struct
import subprocess

import jsonschema
import numpy as np
import PIL.Image
import pytest

FR_DATA = pathlib.Path(os.environ["FR_BIN_DIR"]) / "fr-data"
SOURCE_DIR = pathlib.Path(__file__).resolve().parents[3]


def run(*arguments, fails=None, file_bytes=None):
    """Standard output; with `fails` that exit code is expected, and the message returned. With
    `file_bytes`, the system kills the program when a file gets longer."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    done = subprocess.run([FR_DATA, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, preexec_fn=limit if file_bytes else None)
    if file_bytes:
        assert done.returncode < 0, "it was not killed"
        return None
    if fails is None:
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert done.returncode == fails, (done.returncode, done.stdout, done.stderr)
    for word in ("terminate called", "internal error"):
        assert word not in done.stderr
    return done.stderr


def files_in(directory):
    return {path.relative_to(directory): path.read_bytes()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def make_tree(folder, identities, pictures, side=112):
    """FOLDER/NAME/NAME_0001.jpg with random pictures."""
    generator = np.random.default_rng(1)
    for identity in range(identities):
        name = f"person {identity}"
        (folder / name).mkdir(parents=True)
        for number in range(1, pictures + 1):
            pixels = generator.integers(0, 256, (side, side, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{name}_{number:04}.jpg", quality=95)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    make_tree(folder, identities=6, pictures=4)
    return folder


@pytest.fixture(scope="module")
def faces(tree, tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "faces"
    run("pack", tree, directory)
    return directory


def schema():
    """The one in the documentation, which is what programs rely on."""
    text = (SOURCE_DIR / "docs" / "data.md").read_text()
    return json.loads(re.search(r"```json\n(\{\n \"\$schema\".*?)```", text, re.DOTALL).group(1))


def check(path, report, fails=None):
    run("check", path, "--json", report, fails=fails)
    found = json.loads(report.read_text())
    jsonschema.validate(found, schema())
    assert found["ok"] == (fails is None)
    assert [path.name for path in report.parent.glob(report.name + "*")] == [report.name]
    return found


# --- pack and unpack


def test_packed_and_unpacked_pictures_are_the_same(tree, faces, tmp_path):
    out = run("unpack", faces, tmp_path / "out")
    assert "24 images of 6 identities" in out
    for folder in tree.iterdir():
        before = [path.read_bytes() for path in sorted(folder.iterdir())]
        after = [path.read_bytes() for path in sorted((tmp_path / "out" / folder.name).iterdir(),
                                                      key=lambda path: int(path.stem))]
        assert before == after
    run("pack", tmp_path / "out", tmp_path / "again")
    assert files_in(tmp_path / "again") == files_in(faces)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_killed_pack_ends_with_the_same_files(tree, faces, tmp_path, share):
    size = (faces / "train.rec").stat().st_size
    run("pack", tree, tmp_path / "set", file_bytes=int(size * share))
    assert not (tmp_path / "set" / "property").exists()
    run("inspect", tmp_path / "set", fails=1)
    run("pack", tree, tmp_path / "set")
    assert files_in(tmp_path / "set") == files_in(faces)


def test_a_set_is_not_overwritten(tree, faces):
    before = files_in(faces)
    assert "holds a training set already" in run("pack", tree, faces, fails=1)
    assert "holds a training set already" in run("merge", faces, faces, faces, fails=1)
    assert "holds a training set already" in run("shuffle", faces, faces, fails=1)
    assert files_in(faces) == before


# --- check


def test_a_good_set_is_well(faces, tmp_path):
    found = check(faces, tmp_path / "report.json")
    assert (found["images"], found["identities"], found["width"]) == (24, 6, 112)
    assert "all is well" in run("check", faces)


def test_findings_are_reported(tree, tmp_path):
    """A picture that is cut, one of another size, one that is there twice, in two identities."""
    run("pack", tree, tmp_path / "set")
    photo = next(iter(tree.rglob("*.jpg"))).read_bytes()
    (tmp_path / "more" / "x").mkdir(parents=True)
    (tmp_path / "more" / "x" / "1.jpg").write_bytes(photo)
    (tmp_path / "more" / "x" / "2.jpg").write_bytes(photo)
    run("pack", tmp_path / "more", tmp_path / "small")
    run("merge", tmp_path / "set", tmp_path / "small", tmp_path / "merged")
    rec = tmp_path / "merged" / "train.rec"
    data = bytearray(rec.read_bytes())
    start = data.index(b"\xff\xd8")
    data[start + 300:start + 2000] = bytes(1700)
    rec.write_bytes(data)
    found = check(tmp_path / "merged", tmp_path / "report.json", fails=1)
    groups = found["duplicates_across_identities"]
    assert len(groups) == 1 and groups[0]["images"][1:] == [24, 25]
    assert groups[0]["identities"][1:] == [6, 6]
    for fault in found["broken"]:
        assert fault["key"] == fault["index"] + 1
        magic, = struct.unpack_from("<I", data, fault["byte"])
        assert magic == 0xced7230a


def test_what_is_no_set_is_neither_well_nor_faulty(tree, tmp_path):
    assert "nothing" in run("check", tmp_path / "nothing", fails=2)
    (tmp_path / "x.bin").write_text("no pickle")
    assert "x.bin" in run("check", tmp_path / "x.bin", fails=2)
    (tmp_path / "empty").mkdir()
    run("check", tmp_path / "empty", fails=2)


def test_a_truncated_set_is_a_finding(faces, tmp_path):
    directory = tmp_path / "set"
    directory.mkdir()
    for path in faces.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    os.truncate(directory / "train.rec", 100_000)
    found = check(directory, tmp_path / "report.json", fails=1)
    assert "train.rec" in found["unreadable"]
    assert found["num_record_faults"] > 0


# --- pairs


def test_pairs_of_a_list_are_what_python_reads(tree, tmp_path):
    lines = ["2\t2"]
    expected, flags = [], []

    def add(name_a, a, name_b, b):
        names = [name_a, str(a), str(b)] if name_a == name_b else [name_a, str(a), name_b, str(b)]
        lines.append("\t".join(names))
        flags.append(name_a == name_b)
        for name, number in ((name_a, a), (name_b, b)):
            expected.append((tree / name / f"{name}_{number:04}.jpg").read_bytes())

    for fold in range(2):
        add("person 0", 1, "person 0", 2 + fold)
        add("person 1", 3, "person 1", 4)
        add("person 2", 1, "person 3", 1 + fold)
        add("person 4", 1, "person 5", 4)
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    run("pairs", tree, tmp_path / "lfw.bin", "--pairs-txt", tmp_path / "pairs.txt")
    images, same = pickle.loads((tmp_path / "lfw.bin").read_bytes())
    assert images == expected
    assert same == flags
    assert check(tmp_path / "lfw.bin", tmp_path / "report.json")["pairs"] == 8

    lines[3] = "person 2\t1\tperson 9\t1"
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    message = run("pairs", tree, tmp_path / "x.bin", "--pairs-txt", tmp_path / "pairs.txt", fails=2)
    assert "pairs.txt:4: " in message and "person 9_0001" in message


def test_drawn_pairs_are_unpacked(faces, tmp_path):
    run("pairs", faces, tmp_path / "x.bin", "--count", 40, "--seed", 3)
    run("unpack", tmp_path / "x.bin", tmp_path / "out")
    images, same = pickle.loads((tmp_path / "x.bin").read_bytes())
    header, *rows = (tmp_path / "out" / "pairs.csv").read_text().splitlines()
    assert header == "first,second,same"
    assert len(rows) == len(same) == 40
    for i, row in enumerate(rows):
        first, second, flag = row.split(",")
        assert (tmp_path / "out" / first).read_bytes() == images[2 * i]
        assert (tmp_path / "out" / second).read_bytes() == images[2 * i + 1]
        assert flag == str(int(same[i]))


# --- merge and shuffle


def test_merged_sets_have_all_identities(faces, tmp_path):
    run("merge", faces, faces, tmp_path / "twice")
    assert (tmp_path / "twice" / "property").read_text() == "12,112,112\n"
    run("merge", faces, faces, tmp_path / "joined", "--same-names")
    assert (tmp_path / "joined" / "property").read_text() == "6,112,112\n"
    names = (tmp_path / "joined" / "identities.txt").read_text()
    assert names == (faces / "identities.txt").read_text()


def test_a_shuffled_set_is_the_same_set(faces, tmp_path):
    run("shuffle", faces, tmp_path / "set", "--seed", 7)
    assert check(tmp_path / "set", tmp_path / "report.json")["images"] == 24
    run("unpack", faces, tmp_path / "a")
    run("unpack", tmp_path / "set", tmp_path / "b")
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")
    assert (tmp_path / "set/train.rec").read_bytes() != (faces / "train.rec").read_bytes()
