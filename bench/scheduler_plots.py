#!/usr/bin/env python3
"""Draws what `bench_scheduler month --out DIR` wrote: the plots of docs/scheduling.md.

    bench/scheduler_plots.py DIR [--images docs/images]

Writes scheduler-utilisation.svg and scheduler-waiting.svg; the same figures give the same bytes.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"plain": "plain head of line", "Schedule": "this scheduler"}
COLOURS = {"plain": "#b5651d", "Schedule": "#1f5fa8"}
MINUTE = 1 / 60  # of an hour
STEP = 6  # hours that a point of the utilisation stands for


def column(path, name, convert=float):
    """scheduler -> the column's values, in the order of the file."""
    values = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            values[row["scheduler"]].append(convert(row[name]))
    return values


def means(values, count):
    parts = [values[i : i + count] for i in range(0, len(values), count)]
    return [sum(part) / len(part) for part in parts]


def utilisation(directory, axes):
    for name, busy in column(directory / "utilisation.csv", "busy").items():
        shares = [100 * share for share in means(busy, STEP)]
        days = [i * STEP / 24 for i in range(len(shares))]
        axes.plot(days, shares, label=NAMES[name], color=COLOURS[name], linewidth=1.3)
    axes.set(xlabel="day", ylabel="slots in use, %", ylim=(0, 102))


def waiting(directory, axes):
    for name, hours in column(directory / "jobs.csv", "wait_hours").items():
        # Below a minute a logarithm says nothing.
        hours = sorted(max(hour, MINUTE) for hour in hours)
        shares = [100 * (i + 1) / len(hours) for i in range(len(hours))]
        every = max(len(hours) // 500, 1)
        axes.step(
            hours[::every] + hours[-1:],
            shares[::every] + shares[-1:],
            where="post",
            label=NAMES[name],
            color=COLOURS[name],
            linewidth=1.5,
        )
    axes.set(xscale="log", xlabel="hours of waiting in all", ylabel="jobs that waited no longer, %")
    axes.set(ylim=(0, 101))
    axes.set_xticks([MINUTE, 0.1, 1, 10, 100], ["1 min", "0.1", "1", "10", "100"])


def draw(path, what, directory):
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    what(directory, axes)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center")
    figure.savefig(path, metadata={"Date": None})
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fr", "font.size": 9})
    options.images.mkdir(parents=True, exist_ok=True)
    draw(options.images / "scheduler-utilisation.svg", utilisation, options.directory)
    draw(options.images / "scheduler-waiting.svg", waiting, options.directory)


if __name__ == "__main__":
    main()
