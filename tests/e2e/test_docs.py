"""The pages that users read, held to what they describe."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def keys_of(schema, root):
    """Full paths of every key of the file that message `root` describes."""
    text = (ROOT / "proto" / schema).read_text()
    messages = {name: re.findall(r"^\s+(?:optional|repeated) ([\w.]+) (\w+) = \d+(.*)$", body, re.M)
                for name, body in re.findall(r"^message (\w+) \{(.*?)^\}", text, re.M | re.S)}

    def walk(message, prefix):
        for kind, name, options in messages[message]:
            renamed = re.search(r'\(yaml_key\) = "(\w+)"', options)
            path = prefix + (renamed[1] if renamed else name)
            if kind in messages:
                yield from walk(kind, path + ".")
            else:
                yield path

    return list(walk(root, ""))


def test_every_key_of_the_job_file_is_described():
    page = (ROOT / "docs/job-file.md").read_text()
    keys = keys_of("job.proto", "JobSpec")
    assert "optimizer.schedule.warmup_steps" in keys and "restart.stall_timeout" in keys
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_every_key_of_the_coordinators_file_is_described():
    page = (ROOT / "docs/coordinator-file.md").read_text()
    keys = keys_of("coordinator.proto", "CoordinatorSpec")
    assert "nodes.memory_gib" in keys and "kill_grace" in keys and "launcher" in keys
    missing = [key for key in keys
               if f"`{key}`" not in page and not key.startswith("users.limits.")]
    assert missing == []
    named = re.findall(r"^\| `([\w.]+)` \|", page, re.M)
    assert [key for key in named if key not in keys and key != "users.limits"] == []


def test_links_between_pages_lead_somewhere():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# Whatever a worker reports and Prometheus scrapes is explained.
def test_every_metric_is_described():
    page = (ROOT / "docs/metrics.md").read_text()
    comment = (ROOT / "proto/metrics.proto").read_text().partition("message MetricPoint")[0]
    names = re.findall(r"(?:train|head|shard|triplet|val|checkpoint)/[\w<>/-]+", comment)
    assert "train/loss" in names and "val/<set>/tar_at_far_1e-3" in names
    missing = [name for name in names
               if f"`{re.sub(r'train/time/[a-z]+_', 'train/time/<phase>_', name)}`" not in page]
    assert missing == []
    families = re.findall(r'"((?:fr|process)_[a-z0-9_]+)", "(?:gauge|counter)"',
                          (ROOT / "coordinator/api/prometheus.cpp").read_text())
    assert "fr_train_loss" in families and "process_start_time_seconds" in families
    assert [family for family in families if f"`{family}`" not in page] == []
