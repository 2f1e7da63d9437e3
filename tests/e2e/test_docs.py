"""The pages that users read, held to what they describe."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def job_keys():
    """Full paths of every key of the job file, from the schema."""
    schema = (ROOT / "proto/job.proto").read_text()
    messages = {name: re.findall(r"^\s+(?:optional|repeated) (\w+) (\w+) = \d+(.*)$", body, re.M)
                for name, body in re.findall(r"^message (\w+) \{(.*?)^\}", schema, re.M | re.S)}

    def walk(message, prefix):
        for kind, name, options in messages[message]:
            renamed = re.search(r'\(yaml_key\) = "(\w+)"', options)
            path = prefix + (renamed[1] if renamed else name)
            if kind in messages:
                yield from walk(kind, path + ".")
            else:
                yield path

    return list(walk("JobSpec", ""))


def test_every_key_of_the_job_file_is_described():
    page = (ROOT / "docs/job-file.md").read_text()
    keys = job_keys()
    assert "optimizer.schedule.warmup_steps" in keys and "restart.stall_timeout" in keys
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_links_between_pages_lead_somewhere():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
