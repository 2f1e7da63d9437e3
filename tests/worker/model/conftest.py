import numpy as np
import PIL.Image
import pytest
import torch

from driver import Network

IMAGES = 5


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Files, and their pixels [n, 3, 112, 112]."""
    directory = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(5)
    paths, pixels = [], []
    for number in range(IMAGES):
        coarse = PIL.Image.fromarray(generator.integers(0, 256, (14, 14, 3), np.uint8))
        image = coarse.resize((112, 112), PIL.Image.Resampling.BICUBIC)
        paths.append(directory / f"{number}.png")
        image.save(paths[-1])
        pixels.append(np.asarray(image).transpose(2, 0, 1))
    return paths, torch.tensor(np.stack(pixels)).float()


@pytest.fixture(scope="module")
def r18(tmp_path_factory):
    return Network(("r18", None, False), tmp_path_factory.mktemp("r18"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Network(("y1", None, False), tmp_path_factory.mktemp("y1"))
