import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))


@pytest.fixture(scope="session")
def bin_dir():
    return Path(os.environ.get("FR_BIN_DIR", ROOT / "build/release/bin"))
