"""The recipes of configs/: each is right, its plan is the one that the docs show, and a small twin
of it on synthetic faces trains."""

import json
import math
import os
import re
import subprocess

import pytest
import recipes as table

ROOT = table.ROOT
RECIPES = table.recipes()

# Where the network itself would take too long here: the smallest of its family.
SMALLER = {"r100": "r18", "r50": "r18"}


def ids(path):
    return path.stem


def test_every_file_is_in_the_index():
    index = (ROOT / "configs/README.md").read_text()
    for path in (ROOT / "configs").glob("*.yaml"):
        assert f"({path.name})" in index, path.name
    assert len(RECIPES) == 9


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_a_recipe_is_right_and_says_where_it_comes_from(bin_dir, recipe):
    done = subprocess.run([bin_dir / "fr-submit", recipe, "--dry-run", "--remote-paths"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is right" in done.stderr and "memory" in done.stderr
    comment = re.match(r"(#.*\n)+", recipe.read_text())[0]
    for word in ("Hyperparameters", "ublished", "To change"):
        assert word in comment, word


@pytest.mark.parametrize("recipe", RECIPES, ids=ids)
def test_a_recipes_plan_knows_memory_and_time(bin_dir, recipe):
    plan = table.plan(bin_dir, recipe)
    assert plan["memory_bytes"] == sum(item["bytes"] for item in plan["memory"])
    assert plan["seconds"]["job"] == pytest.approx(plan["steps"] * plan["seconds"]["step"])
    rate_falls = re.search(r"steps: \[([0-9, ]+)\]", recipe.read_text())
    if rate_falls:  # all within the job
        assert max(map(int, rate_falls[1].split(","))) < plan["steps"]


def test_the_table_in_the_docs_is_fresh(bin_dir):
    page = (ROOT / "docs/planning.md").read_text()
    shown = page.split(table.BEGIN)[1].split(table.END)[0]
    assert shown == table.table(bin_dir), \
        "run: bench/recipes.py --write docs/planning.md"


@pytest.fixture(scope="module")
def faces(bin_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("recipes") / "faces"
    subprocess.run([bin_dir / "fr-data", "synth", directory, "--identities", "20", "--images", "6",
                    "--seed", "1", "--holdout", "4", "--pairs", "20"], check=True,
                   capture_output=True)
    return directory


@pytest.fixture(scope="module")
def train(bin_dir, faces, tmp_path_factory):
    """Runs the small twin of a recipe; its run directory."""
    runs = tmp_path_factory.mktemp("runs")

    def run(name, *more):
        recipe = ROOT / "configs" / f"{name}.yaml"
        text = recipe.read_text()
        settings = [f"data.train={faces}", "data.validation=[synth]", "resources.workers=2",
                    "resources.threads_per_worker=1", "data.loader_threads=1", "train.epochs=1",
                    "train.max_steps=3", "train.log_every=1", "train.validate_every=0",
                    "train.validate_at_start=false", "checkpoint.every=0",
                    "checkpoint.keep_best=synth"]
        batch = "data.total_batch_size" if "total_batch_size" in text else "data.batch_size"
        images = 20 if "order: identities" in text else 8
        settings.append(f"{batch}={images if batch.endswith('.batch_size') else 2 * images}")
        if "steps: [" in text:
            settings.append("optimizer.schedule.steps=[1, 2]")
        if "warmup_steps" in text:
            settings.append("optimizer.schedule.warmup_steps=1")
        network = re.search(r"network: (\w+)", text)[1]
        settings.append(f"model.network={SMALLER.get(network, network)}")
        settings += more
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2",
                   bin_dir / "fr-worker", "--job", recipe, "--run-dir", runs / name]
        for setting in settings:
            command += ["--set", setting]
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1",
                           OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
        assert done.returncode == 0, done.stderr
        return runs / name, done.stderr

    return run


def check_run(run_dir, log):
    losses = [float(loss) for loss in re.findall(r"loss ([-+.\w]+)", log)]
    assert len(losses) == 3 and all(map(math.isfinite, losses)), log
    checkpoint = run_dir / "checkpoints/step-0000000003"
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for file in manifest["files"]:
        assert (checkpoint / file["name"]).stat().st_size == int(file["bytes"]), file
    assert [result["set"] for result in manifest["validation"]] == ["synth"]
    return checkpoint


@pytest.mark.parametrize("recipe", [path for path in RECIPES if "triplet" not in path.name],
                         ids=ids)
def test_a_recipes_small_twin_trains(train, recipe):
    check_run(*train(recipe.stem))


def test_triplets_go_on_from_the_softmax_model(train):
    checkpoint = check_run(*train("ms1m-m1-softmax"))
    run_dir, log = train("ms1m-m1-triplet", f"model.pretrained={checkpoint}")
    assert f"weights from {checkpoint}" in log
    files = [file["name"] for file in
             json.loads((check_run(run_dir, log) / "manifest.json").read_text())["files"]]
    assert not [name for name in files if name.startswith("head-")], files
