import io
import os
import pathlib
import pickle
import subprocess

import PIL.Image
import pytest

BIN_DIR = pathlib.Path(os.environ["FR_BIN_DIR"])


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory):
    """Faces as fr-data synth draws them: MTCNN finds most."""
    directory = tmp_path_factory.mktemp("synth")
    subprocess.run(
        [BIN_DIR / "fr-data", "synth", directory, "--identities", "1", "--images", "1", "--holdout",
         "8", "--pairs", "16"], check=True, capture_output=True)
    encoded, _ = pickle.loads((directory / "synth.bin").read_bytes())
    return [PIL.Image.open(io.BytesIO(image)).convert("RGB") for image in dict.fromkeys(encoded)]


@pytest.fixture(scope="session")
def photograph(drawn_faces):
    """Several faces of several sizes, with space around them."""
    picture = PIL.Image.new("RGB", (560, 400), (90, 110, 100))
    for number, face in enumerate(drawn_faces[:6]):
        side = 90 + 12 * number
        picture.paste(face.resize((side, side)), (15 + number % 3 * 180, 20 + number // 3 * 190))
    return picture
