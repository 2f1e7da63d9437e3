"""What `frctl plan` says of memory, held to the peak of real workers."""

import memory
import pytest


@pytest.fixture(scope="module")
def faces(bin_dir, tmp_path_factory):
    return memory.make_faces(bin_dir, tmp_path_factory.mktemp("memory") / "faces")


# The largest part is the network's values in each of them: kept, kept in bfloat16, computed again.
@pytest.mark.parametrize("network, batch, precision, recompute",
                         [("mbf", 16, "fp32", False), ("r18", 16, "bf16", False),
                          ("y1", 32, "fp32", True)])
def test_the_growth_of_a_worker_is_as_planned(bin_dir, faces, tmp_path, network, batch, precision,
                                              recompute):
    planned, measured, off = memory.compare(bin_dir, tmp_path, faces, network, batch, precision,
                                            recompute)
    assert abs(off) < 0.2, (planned >> 20, measured >> 20)


def test_a_head_is_as_large_as_planned(bin_dir, faces, tmp_path):
    """Sixteen rows an identity make a head of 64 x 16 x 4,096 values."""
    extra = "loss: {sub_centers: 16}\n"
    sizes = []
    for values in (64, 4096):
        job = memory.write_job(tmp_path / f"{values}.yaml", faces, "y1", 2, extra=extra)
        job.write_text(job.read_text().replace("{network: y1,",
                                               f"{{network: y1, embedding_size: {values},"))
        sizes.append((memory.planned(bin_dir, job)[0],
                      memory.measured(bin_dir, job, tmp_path / str(values))))
    planned, measured = (large - small for small, large in zip(*sizes))
    assert abs(planned / measured - 1) < 0.2, (planned >> 20, measured >> 20)
