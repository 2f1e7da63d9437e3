"""facenet-pytorch's MTCNN, as the tests compare with it."""

import importlib.util
import pathlib
import sys
import types

import numpy as np
import torch


def _keep_best(boxes, scores, image_of_box, threshold):
    """What torchvision.ops.batched_nms is defined to be; torchvision's operators are made for one
    build of torch."""
    boxes, scores, image_of_box = boxes.numpy(), scores.numpy(), image_of_box.numpy()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:4], boxes[rest, 2:4])
        shared = np.maximum(0, high - low).prod(axis=1)
        overlap = shared / (areas[best] + areas[rest] - shared)
        order = rest[(overlap <= threshold) | (image_of_box[rest] != image_of_box[best])]
    return torch.tensor(kept, dtype=torch.long)


def _stub(name, **attributes):
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


PACKAGE = pathlib.Path(importlib.util.find_spec("facenet_pytorch").submodule_search_locations[0])
WEIGHTS = PACKAGE / "data"

# The package's own __init__ asks for more than detection needs.
_stub("facenet_pytorch", __path__=[str(PACKAGE)])
_stub("torchvision")
_stub("torchvision.transforms", functional=None)
_stub("torchvision.ops")
_stub("torchvision.ops.boxes", batched_nms=_keep_best)

from facenet_pytorch.models.mtcnn import ONet, PNet, RNet  # noqa: E402
from facenet_pytorch.models.utils.detect_face import detect_face  # noqa: E402

for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
    del sys.modules[_name]

torch.set_grad_enabled(False)
NETWORKS = {"pnet": PNet().eval(), "rnet": RNet().eval(), "onet": ONet().eval()}


def detect(image):
    """Boxes with scores [n, 5] and points [n, 5, 2] of a PIL image; of the first of several."""
    try:
        boxes, points = detect_face(
            image, 20, NETWORKS["pnet"], NETWORKS["rnet"], NETWORKS["onet"], [0.6, 0.7, 0.7], 0.709,
            "cpu")
    except (RuntimeError, ValueError):  # how it says that there is not even a candidate
        return np.zeros((0, 5)), np.zeros((0, 5, 2))
    return np.array(boxes[0], float).reshape(-1, 5), np.array(points[0], float).reshape(-1, 5, 2)


def main_face(boxes, width, height):
    """Which one center_weighted_size of facenet-pytorch chooses."""
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2 - np.array([width, height]) / 2
    return int(np.argmax(sizes - 2.0 * (centres**2).sum(axis=1)))
