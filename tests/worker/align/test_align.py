"""fr-data align and pack --align, as people use them."""

import subprocess

import numpy as np
import PIL.Image
import pytest

import reference_mtcnn
from conftest import BIN_DIR

# InsightFace's positions of the five points in 112 x 112 pixels.
TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
                     [70.7299, 92.2041]])


def fr_data(*arguments, code=0):
    done = subprocess.run([BIN_DIR / "fr-data", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done


@pytest.fixture
def folder(tmp_path, photograph, drawn_faces):
    """Photographs of two identities; one without a face."""
    pictures = {"ann/1.png": photograph, "ann/2.jpg": photograph.rotate(10),
                "bob/1.png": photograph.crop((190, 0, 560, 400)),
                "bob/2.png": PIL.Image.new("RGB", (90, 90))}
    for path, picture in pictures.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "in" / path)
    return tmp_path / "in"


def umeyama(source, target):
    """The textbook's formula."""
    centre, to = source.mean(0), target.mean(0)
    u, s, v = np.linalg.svd((target - to).T @ (source - centre) / len(source))
    d = np.diag([1, np.sign(np.linalg.det(u @ v))])
    turn = u @ d @ v * np.trace(np.diag(s) @ d) / ((source - centre)**2).sum(1).mean()
    return np.hstack([turn, (to - turn @ centre)[:, None]])


def warp(picture, matrix):
    """Pillow's bilinear transform, whose pixels have their centres at 0.5."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    inverse[:, 2] += 0.5 - inverse[:, :2].sum(1) / 2
    return picture.transform((112, 112), PIL.Image.Transform.AFFINE, inverse.ravel(),
                             PIL.Image.Resampling.BILINEAR)


def test_cuts_out_the_main_face(folder, tmp_path):
    done = fr_data("align", folder, tmp_path / "out", "--mtcnn", reference_mtcnn.WEIGHTS)
    assert "aligned     3" in done.stdout and "no face     1" in done.stdout
    assert (tmp_path / "out/no_face.txt").read_text() == "bob/2.png\n"
    for name in ("ann/1", "bob/1"):
        picture = PIL.Image.open(folder / f"{name}.png").convert("RGB")
        boxes, points = reference_mtcnn.detect(picture)
        five = points[reference_mtcnn.main_face(boxes, *picture.size)]
        expected = np.asarray(warp(picture, umeyama(five, TEMPLATE)), float)
        face = np.asarray(PIL.Image.open(tmp_path / f"out/{name}.jpg"), float)
        # JPEG blurs colours.
        assert np.abs(face - expected).mean() < 3
    again = fr_data("align", folder, tmp_path / "out", "--mtcnn", reference_mtcnn.WEIGHTS)
    assert "were there  3" in again.stdout


def test_takes_points_of_a_file(folder, tmp_path):
    line = "{}," + ",".join(f"{2 * x},{2 * y}" for x, y in TEMPLATE)
    points = tmp_path / "points.csv"
    points.write_text("\n".join(line.format(path) for path in ("ann/1.png", "bob/1.png")))
    fr_data("align", folder, tmp_path / "out", "--landmarks", points)
    face = np.asarray(PIL.Image.open(tmp_path / "out/ann/1.jpg"), float)
    half = PIL.Image.open(folder / "ann/1.png").transform(
        (112, 112), PIL.Image.Transform.AFFINE, (2, 0, -0.5, 0, 2, -0.5),
        PIL.Image.Resampling.BILINEAR)
    assert np.abs(face - np.asarray(half, float)).mean() < 3

    points.write_text(line.format("ann/1.png") + "\nbob/1.png,1,2\n")
    assert f"{points}:2: 3 values" in fr_data(
        "align", folder, tmp_path / "out2", "--landmarks", points, code=2).stderr
    points.write_text(line.format("elsewhere/1.png"))
    assert "relative to that folder, such as ann/1.png" in fr_data(
        "align", folder, tmp_path / "out2", "--landmarks", points, code=2).stderr


def test_packs_what_align_would_cut_out(folder, tmp_path):
    fr_data("align", folder, tmp_path / "out", "--mtcnn", reference_mtcnn.WEIGHTS)
    fr_data("pack", tmp_path / "out", tmp_path / "two_steps")
    done = fr_data("pack", folder, tmp_path / "one_step", "--align", "--mtcnn",
                   reference_mtcnn.WEIGHTS, "--skip-broken")
    assert "2.png: no face" in done.stderr
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "one_step" / name).read_bytes() == (
            tmp_path / "two_steps" / name).read_bytes()


def test_says_how_to_get_the_weights(folder, tmp_path):
    assert "scripts/get-mtcnn" in fr_data(
        "align", folder, tmp_path / "out", "--mtcnn", tmp_path, code=1).stderr
