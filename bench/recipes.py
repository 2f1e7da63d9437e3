#!/usr/bin/env python3
"""What every recipe of configs/ will need, as `frctl plan` has it: a table of docs/planning.md.

    bench/recipes.py [--bin build/release/bin]           prints it
    bench/recipes.py --write docs/planning.md            puts it there, between its two marks
"""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- bench/recipes.py -->\n"
END = "<!-- end -->\n"
GIB = 1 << 30
DAY = 86400

# Identities and images, as configs/README.md has them.
SETS = {"ms1m": (85_742, 5_822_653), "glint360k": (360_232, 17_091_657),
        "webface42m": (2_059_906, 42_474_557)}


def recipes():
    return sorted(path for path in (ROOT / "configs").glob("*.yaml")
                  if path.name.split("-")[0] in SETS)


def plan(bin_dir, recipe, *options):
    identities, images = SETS[recipe.name.split("-")[0]]
    out = subprocess.run([bin_dir / "frctl", "plan", recipe, "-o", "json", "--identities",
                          str(identities), "--images", str(images), *options],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def row(bin_dir, recipe):
    cpu = plan(bin_dir, recipe)
    gpu = plan(bin_dir, recipe, "--machine", ROOT / "configs/machines/h100.yaml")
    largest = max(cpu["memory"], key=lambda item: item["bytes"])
    return (f"| {recipe.stem} | {cpu['workers']} x {cpu['images_per_worker']} | "
            f"{cpu['memory_bytes'] / GIB:.1f} GiB, {largest['item']} "
            f"{100 * largest['bytes'] / cpu['memory_bytes']:.0f} % | "
            f"{cpu['sent_bytes']['total'] / (1 << 20):.0f} MiB | {cpu['steps']:,} | "
            f"{cpu['seconds']['step']:.2f} s | {cpu['seconds']['job'] / DAY:.1f} days | "
            f"{gpu['seconds']['job'] / 3600:.1f} h |\n")


def table(bin_dir):
    head = ("| recipe | workers x images | memory of a worker, most of it | sent by a worker in a "
            "step | steps | a step | the job | with GPUs (assumed) |\n|---|---|---|---|---|---|---|---|\n")
    return head + "".join(row(bin_dir, recipe) for recipe in recipes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, default=Path("build/release/bin"))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    text = table(options.bin)
    if options.write is None:
        print(text, end="")
        return
    page = options.write.read_text()
    before, rest = page.split(BEGIN)
    options.write.write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
