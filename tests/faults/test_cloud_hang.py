"""A cloud's process that hangs ends by itself and says where; whoever started it starts another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.accounts.secret import make_secret
from cloud.ops.hang import PATIENCE_S
from tests.fakes import START

pytestmark = [pytest.mark.faults, pytest.mark.slow]

DEPLOY = Path(__file__).resolve().parents[2] / "cloud" / "deploy"
PATIENT_S = 3.0
#: The service; a line on its standard input holds its loop up for ever.
HELD_UP = f"""
import asyncio, sys, time
from pathlib import Path
from cloud.app import serve
from cloud.config import load
from tests.fakes import FakeClock

def hold_up():
    sys.stdin.readline()
    time.sleep(600)

async def main():
    asyncio.get_running_loop().add_reader(0, hold_up)
    await serve(load(Path(sys.argv[1])), clock=FakeClock(), port=0, patience_s={PATIENT_S})

asyncio.run(main())
"""
#: A heart that beats for longer than its patience, and then once more is not proved.
BEATS = """
import asyncio
from cloud.ops.hang import end_if_hung

async def main():
    beats = 0
    async def proof():
        nonlocal beats
        beats += 1
        print(beats, flush=True)
        return beats < 12
    await end_if_hung(proof, patience_s=0.9)

asyncio.run(main())
"""


def test_a_service_whose_loop_is_held_up_ends_and_says_where(database_url: str, tmp_path: Path) -> None:
    make_secret(tmp_path / "cloud.key")
    config = tmp_path / "cloud.toml"
    config.write_text(
        f'[database]\nurl = "{database_url}"\n[accounts]\nkey_file = "{tmp_path}/cloud.key"\n'
        f'[notify]\noutbox_file = "{tmp_path}/codes"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-c", HELD_UP, config], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        next(line for line in said if "cloud.ready" in line)
        process.stdin.write("hang\n")
        process.stdin.flush()
        told = "".join(said)
        assert process.wait(timeout=60) == 1
    finally:
        process.kill()
        process.communicate()
    assert "Timeout" in told
    assert "in hold_up" in told
    assert START.strftime("%Y") not in told, "files and lines, no values"


def test_a_heart_that_beats_lives_on_and_one_that_is_not_proved_any_more_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", BEATS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    beats = list(map(int, done.stdout.split()))
    assert beats[:12] == list(range(1, 13)), "eleven beats of 0.3 s are longer than its patience"
    assert "Timeout" in done.stderr


@pytest.mark.parametrize("unit", ["outpost-cloud.service", "outpost-cloud-worker.service"])
def test_who_ends_is_started_again_for_ever(unit: str) -> None:
    text = (DEPLOY / unit).read_text(encoding="utf-8")
    assert {"Restart=always", "StartLimitIntervalSec=0"} <= set(text.splitlines())
    (wait_s,) = re.findall(r"^RestartSec=(\d+)$", text, re.MULTILINE)
    assert PATIENCE_S + int(wait_s) < 90
