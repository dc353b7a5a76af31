"""A program that has loaded SpatiaLite, and with it the system's PROJ, imports what brings a PROJ of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.integration]

LOADED = """
from edge.store.driver import load_spatialite, sqlite
connection = sqlite.connect(":memory:")
load_spatialite(connection)
"""
OURS = """
from shared.movement.geodesy import Geod
from models.bbmm.features import Transformer
import pyproj
assert pyproj.proj_version_str == pyproj.__proj_compiled_version__, pyproj.proj_version_str
print(Transformer.from_crs(4326, 32736, always_xy=True).transform(35.0, -1.0))
"""
MAPS = """
from models.habitat.features import _rasterio
rasterio = _rasterio()
import numpy as np
from rasterio.io import MemoryFile
with MemoryFile() as memory:
    shape = dict(driver="GTiff", height=4, width=4, count=1, dtype="float32", crs="EPSG:32736")
    with memory.open(transform=rasterio.transform.from_origin(700000, 9900000, 30, 30), **shape) as file:
        file.write(np.ones((4, 4), "float32"), 1)
    with memory.open() as file:
        assert file.crs.to_epsg() == 32736 and file.read(1).sum() == 16
"""


def ran(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("program", [OURS, MAPS], ids=["pyproj", "rasterio"])
def test_whoever_brings_libraries_of_its_own_uses_them_after_spatialite(program: str) -> None:
    found = ran(LOADED + program)
    assert found.returncode == 0, found.stderr
