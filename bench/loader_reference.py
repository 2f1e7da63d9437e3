"""Images per second of OpenCV's imdecode and of Pillow on the images of a training set.

    loader_reference.py DIRECTORY SECONDS

One thread each: decode to RGB, mirror every other image, copy into a batch. The reading of the
records is not measured.
"""

import io
import pathlib
import struct
import sys
import time

import cv2
import numpy
import PIL.Image

HEADER = struct.Struct("<IIIfQQ")  # magic, length, then MXNet's IRHeader


def images_of(directory):
    record_file = (directory / "train.rec").read_bytes()
    _, height, width = map(int, (directory / "property").read_text().split(","))
    images = []
    for line in (directory / "train.idx").read_text().splitlines():
        offset = int(line.split("\t")[1])
        _, length, flag, *_ = HEADER.unpack_from(record_file, offset)
        if flag == 0:
            images.append(record_file[offset + HEADER.size : offset + 8 + (length & 0x1FFFFFFF)])
    return images, height, width


def rate(images, decode, shape, seconds):
    order = numpy.random.default_rng(1).permutation(len(images))
    flips = numpy.random.default_rng(2).random(len(images)) < 0.5
    batch = numpy.empty((64, *shape), numpy.uint8)
    done, start = 0, time.perf_counter()
    while done % 64 or time.perf_counter() - start < seconds:
        index = order[done % len(order)]
        image = decode(images[index])
        batch[done % 64] = image[:, ::-1] if flips[index] else image
        done += 1
    return done / (time.perf_counter() - start)


def opencv(encoded):
    image = cv2.imdecode(numpy.frombuffer(encoded, numpy.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pillow(encoded):
    return numpy.asarray(PIL.Image.open(io.BytesIO(encoded)).convert("RGB"))


def main():
    cv2.setNumThreads(1)
    images, height, width = images_of(pathlib.Path(sys.argv[1]))
    for decode in (opencv, pillow):
        found = rate(images, decode, (height, width, 3), float(sys.argv[2]))
        print(decode.__name__, f"{found:.1f}")


if __name__ == "__main__":
    main()
