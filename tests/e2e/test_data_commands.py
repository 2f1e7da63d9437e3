"""fr-data index and fr-data shards, as people use them."""

import subprocess
import tarfile

import pytest

from cluster import BIN_DIR


def fr_data(*arguments, code=0):
    done = subprocess.run([BIN_DIR / "fr-data", *map(str, arguments)], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def faces(tmp_path):
    directory = tmp_path / "faces"
    fr_data("synth", directory, "--identities", 4, "--images", 3, "--holdout", 3, "--pairs", 10)
    return directory


def sorted_lines(path):
    return sorted(path.read_text().splitlines())


def test_index_makes_the_index_that_was_lost(faces):
    index = faces / "train.idx"
    before = sorted_lines(index)
    assert "is there already" in fr_data("index", faces, code=1)
    index.unlink()
    assert "fr-data index" in fr_data("inspect", faces, code=1)
    assert "17 records" in fr_data("index", faces)  # 12 images, 4 identities, record 0
    assert sorted_lines(index) == before


def test_index_of_a_damaged_file_names_the_byte_and_writes_nothing(faces):
    index, records = faces / "train.idx", faces / "train.rec"
    index.unlink()
    records.write_bytes(records.read_bytes()[:-10])
    assert "train.rec: the record at byte" in fr_data("index", faces, code=1)
    assert not index.exists()


def test_shards_hold_every_image_and_are_read_like_the_set(faces, tmp_path):
    shards = tmp_path / "shards"
    fr_data("shards", faces, shards, "--size", "20K", "--shuffle")
    pictures = 0
    for path in shards.glob("*.tar"):
        assert path.stat().st_size <= 20 * 1024
        with tarfile.open(path) as archive:
            pictures += sum(name.endswith(".jpg") for name in archive.getnames())
    assert pictures == 12
    text = fr_data("inspect", shards)
    assert "shards (*.tar)" in text and "identities  4" in text and "warning" not in text
    # Another shard, which shards.idx does not know: said, and read all the same.
    first = sorted(shards.glob("*.tar"))[0]
    (shards / "more.tar").write_bytes(first.read_bytes())
    assert "fr-data index writes it anew" in fr_data("inspect", shards)
    fr_data("index", shards)
    assert "warning" not in fr_data("inspect", shards)
    assert "is there already" in fr_data("shards", faces, shards, code=1)
