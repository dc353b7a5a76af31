"""The benchmarks run from end to end. Their figures decide nothing here: the machine may be busy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.wire.batch import encode_fixes
from tests import real_data
from tests.benchmarks import api, herd, homes, offline, wire
from tests.benchmarks.figures import quantile
from tests.benchmarks.tables import BEGIN, END, Table, write

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
README = ROOT / "tests" / "benchmarks" / "README.md"

ROWS = {
    "Promises": 2,
    "Durable ingest beside plain insert, fixes/s": 1,
    "From a frame to the API at 50 fixes/s, ms": 1,
    "Memory, disk, start": 1,
    "Reads": 10,
    "Decoding alone, one thread": 27,
    "Decoding beside a library, frames/s": 5,
    "Framing alone, one thread": 12,
    "Machine": 11,
}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a module of the benchmarks as `make` does."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )


def test_the_quick_benchmark_fills_every_table_of_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    done = run(
        "tests.benchmarks", "--quick", "--sizes", "2000", "--write", "--readme", readme, "--dir", tmp_path / "disk"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = readme.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    found = {
        title: [line for line in body.splitlines() if line.startswith("|")][2:]
        for title, body in re.findall(r"^### (.+)\n((?:.*\n)*?)(?=^###|\Z)", written, re.MULTILINE)
    }
    assert {title: len(rows) for title, rows in found.items()} == ROWS
    assert not re.search(r"\bnan\b|\binf\b|None", written)
    assert not list((tmp_path / "disk").iterdir())


def test_the_quick_benchmark_of_both_homes_fills_its_tables(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    done = run("tests.benchmarks.homes", "--quick", "--write", "--readme", readme)
    assert done.returncode == 0, done.stdout + done.stderr
    written = readme.read_text(encoding="utf-8").partition(homes.MARKS[0])[2].partition(homes.MARKS[1])[0]
    assert written.count("\n### ") == 3
    assert len([line for line in written.splitlines() if line.startswith("|")]) > 20
    assert not re.search(r"\bnan\b|\binf\b|None", written)


@pytest.mark.nightly
def test_the_quick_benchmark_of_the_api_fills_its_tables(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(["# Figures", *api.MARKS, "", "the rest"]))
    done = run("tests.benchmarks.api", "--quick", "--write", "--readme", readme)
    assert done.returncode == 0, done.stderr
    written = readme.read_text(encoding="utf-8").partition(api.MARKS[0])[2].partition(api.MARKS[1])[0]
    for title in ("Uploads through the API", "Answers of the API", "Machine, the API"):
        assert f"### {title}" in written


@pytest.mark.nightly
def test_the_quick_month_offline_fills_its_tables_and_keeps_its_promises(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(["# Figures", *offline.MARKS, "", "the rest"]))
    done = run("tests.benchmarks.offline", "--quick", "--write", "--readme", readme, "--dir", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    written = readme.read_text(encoding="utf-8").partition(offline.MARKS[0])[2].partition(offline.MARKS[1])[0]
    assert written.count("\n### ") >= 6
    assert "| NO |" not in written
    assert not re.search(r"\bnan\b|\binf\b|None", written)


@pytest.mark.parametrize("count", sorted(wire.GOALS))
@pytest.mark.parametrize("is_whole", [False, True])
def test_a_batch_of_forty_real_collars_takes_no_more_bytes_a_fix_than_promised(count: int, *, is_whole: bool) -> None:
    for name in wire.FILES:
        real_data.tracks(name)
    goal = wire.GOALS[count][is_whole]
    sizes = [len(encode_fixes(wire.fixes(count, seed, is_whole=is_whole))) / count for seed in range(5)]
    assert max(sizes) <= goal, sizes


def test_a_short_soak_says_what_it_saw(tmp_path: Path) -> None:
    done = run("tests.benchmarks.soak", "--minutes", "0.06", "--fixes", "1000", "--dir", tmp_path)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for claim in ("PSS growth", "RSS growth", "write-ahead log", "frame to API", "API answers", "event loop"):
        assert claim in done.stdout
    assert re.search(r"errors +< 1 +0\.0 +yes", done.stdout), done.stdout


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n", encoding="utf-8")
    table = Table("Figures", ("what", "much"), [("one", "1")])
    write([table], readme)
    write([table], readme)
    text = readme.read_text(encoding="utf-8")
    assert text == (
        f"before\n\n{BEGIN}\n\n### Figures\n\n| what | much |\n| --- | ---: |\n| one | 1 |\n\n{END}\n\nafter\n"
    )


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("text\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no markers"):
        write([], readme)


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert quantile([7.0], 0.5) == 7.0


def test_every_number_is_a_fix_of_its_own() -> None:
    numbers = range(0, 200_000, 37)
    assert len({herd.id_of(number) for number in numbers}) == len(numbers)


def test_a_file_goes_in_and_out_in_every_format() -> None:
    said = run("tests.benchmarks.exchange", "--rows", "200")
    assert said.returncode == 0, said.stderr
    lines = [line for line in said.stdout.splitlines() if re.match(r"\s+(import|export)", line)]
    assert len(lines) == 9
    assert all(" 200 " in line for line in lines)


CORRIDORS = (
    "Steps of the environment, one thread", "Steps of PPO, with its updates",
    "A route by PPO with search beside the exact path",
)  # fmt: skip


@pytest.mark.parametrize(
    ("module", "titles"), [("corridor", CORRIDORS), ("science", ("A map of 700 x 700 cells scored",))]
)
def test_the_quick_benchmarks_of_corridors_and_science_fill_their_tables(
    module: str, titles: tuple[str, ...], tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    done = run(f"tests.benchmarks.{module}", "--quick", "--write", "--readme", readme)
    assert done.returncode == 0, done.stdout + done.stderr
    written = readme.read_text(encoding="utf-8").partition(f"tests.benchmarks.{module} --write` -->\n")[2]
    body = written.partition("<!-- end of tables")[0]
    for title in titles:
        assert f"### {title}" in body
    assert not re.search(r"\bnan\b|\binf\b|None", body)
