"""Seconds that facenet-pytorch takes for a folder of pictures: one by one, and in one batch.

    align_reference.py DIRECTORY THREADS

From the files to all faces and their points. Prints both numbers.
"""

import pathlib
import sys
import time

import PIL.Image
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests/worker/align"))
import reference_mtcnn  # noqa: E402

torch.set_num_threads(int(sys.argv[2]))
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.jpg"))


def read(path):
    return PIL.Image.open(path).convert("RGB")


def seconds(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


reference_mtcnn.detect(read(paths[0]))
one_by_one = seconds(lambda: [reference_mtcnn.detect(read(path)) for path in paths])
batch = seconds(lambda: [
    reference_mtcnn.detect([read(path) for path in paths[i:i + 32]])
    for i in range(0, len(paths), 32)])
print(one_by_one, batch)
