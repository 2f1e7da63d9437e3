#!/usr/bin/env python3
"""Peak memory of real workers beside what `frctl plan` says: the table of docs/planning.md.

    bench/memory.py [--bin build/release/bin] [--networks r18,mbf] [--batches 8,32]

Each case is a process of its own, one worker alone: three steps on a few synthetic faces and the
checkpoint at the end. What is compared is the growth over the program itself, an item of the plan.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

MIB = 1 << 20
IDENTITIES = 64
NETWORKS = "r18,r50,mbf,vit_t,densenet121"


def make_faces(bin_dir, directory):
    """Two images for each of 64 identities."""
    subprocess.run([bin_dir / "fr-data", "synth", directory, "--identities", str(IDENTITIES),
                    "--images", "2", "--seed", "1"], check=True, capture_output=True)
    return directory


def write_job(path, faces, network, batch, precision="fp32", recompute=False, extra=""):
    path.write_text(f"""\
name: memory
resources: {{workers: 1, threads_per_worker: 1}}
data: {{train: {faces}, batch_size: {batch}}}
model: {{network: {network}, precision: {precision}, recompute: {str(recompute).lower()}}}
optimizer: {{lr: 0.01}}
train: {{epochs: 50, max_steps: 3, validate_at_start: false, tensorboard: false}}
checkpoint: {{every: 0, async: false}}
{extra}""")
    return path


def planned(bin_dir, job):
    """Of one worker, and of that the program itself; bytes."""
    out = subprocess.run([bin_dir / "frctl", "plan", job, "-o", "json"], check=True,
                         capture_output=True, text=True).stdout
    plan = json.loads(out)
    program = next(item["bytes"] for item in plan["memory"] if item["item"] == "program")
    return plan["memory_bytes"], program


def measured(bin_dir, job, run_dir):
    """The largest resident set that a worker ever had; bytes."""
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen([bin_dir / "fr-worker", "--job", job, "--run-dir", run_dir],
                                  stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(worker.pid, 0)
        worker.returncode = os.waitstatus_to_exitcode(status)
        if worker.returncode != 0:
            log.seek(0)
            raise RuntimeError(f"{job}: fr-worker failed:\n{log.read().decode()}")
    return usage.ru_maxrss * 1024


def compare(bin_dir, directory, faces, network, batch, precision, recompute):
    """(planned, measured, growth planned over growth measured, less 1)."""
    name = f"{network}-{batch}-{precision}-{recompute}"
    job = write_job(Path(directory) / f"{name}.yaml", faces, network, batch, precision, recompute)
    plan, program = planned(bin_dir, job)
    real = measured(bin_dir, job, Path(directory) / name)
    return plan, real, (plan - program) / (real - program) - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, default=Path("build/release/bin"))
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--batches", default="8,32")
    options = parser.parse_args()
    print("| network | batch | precision | recompute | planned | measured | growth off by |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        faces = make_faces(options.bin, Path(directory) / "faces")
        for network in options.networks.split(","):
            for batch in options.batches.split(","):
                for precision in ("fp32", "bf16"):
                    for recompute in (False, True):
                        plan, real, off = compare(options.bin, directory, faces, network,
                                                  int(batch), precision, recompute)
                        print(f"| `{network}` | {batch} | {precision} | "
                              f"{'yes' if recompute else 'no'} | {plan / MIB:.0f} MiB | "
                              f"{real / MIB:.0f} MiB | {off * 100:+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
