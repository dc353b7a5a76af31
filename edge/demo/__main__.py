"""`python -m edge.demo`: what `make run` starts."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.console import Console

from edge.app import operator_tokens, sole_owner
from edge.config import load
from edge.demo.processes import Processes, program, start_broker
from edge.ops.watch import watch
from edge.people import with_accounts
from firmware_bridge.simulator.tracks import eui_for
from shared.clock import VirtualClock
from shared.errors import ConfigError, OutpostError
from shared.movement.tracks import TrackRow, good_rows
from shared.people import demo_people, show_people

console = Console()

#: Everything a demo makes lies here and nowhere else.
FOLDER = Path("var")
READY_S = 60.0
#: The tracks' last fixes are under way this long, at most, after the simulator has sent them.
SETTLE_S = 120.0


class Member(msgspec.Struct, frozen=True):
    """An animal of the herd, as the simulator's manifest names it."""

    name: str
    species: str
    device: str
    fix_interval_s: int | None = None


def main(
    port: Annotated[int, typer.Option(help="Port of the station's page; 0 takes a free one.")] = 0,
    speed: Annotated[float, typer.Option(help="Virtual seconds in a real second.")] = 60.0,
    animals: Annotated[int, typer.Option(help="Animals in the simulated herd.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 1,
    tracks: Annotated[Path | None, typer.Option(help="Replay this tidy track file in place of the herd.")] = None,
    once: Annotated[bool, typer.Option("--once", help="With --tracks: compare store and file, and end.")] = False,
    cloud: Annotated[str, typer.Option(help="Enrol at this cloud, as `make run-cloud` prints it.")] = "",
    code: Annotated[str, typer.Option(help="The cloud's one-time code.")] = "",
) -> None:
    """Start a broker, a simulated herd on real ports, and a station; Ctrl-C ends all of them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's word ends it as Ctrl-C does
    if bool(cloud) != bool(code):
        raise typer.BadParameter("--cloud and --code go together")
    joining = (cloud, code) if cloud else None
    try:
        if tracks is None:
            exit_code = _herd(port, speed, animals, seed, joining)
        else:
            exit_code = _replay(port, speed, seed, tracks, joining, once=once)
    except KeyboardInterrupt:
        exit_code = 0
    except OutpostError as error:
        console.print(f"[red]{error.detail}[/]", highlight=False)
        exit_code = 1
    raise typer.Exit(exit_code)


def _herd(port: int, speed: float, animals: int, seed: int, joining: tuple[str, str] | None) -> int:
    folder = FOLDER / "demo"
    _check_alone(folder)
    ended = folder / "ended-at"
    start = datetime.now(UTC).replace(microsecond=0)
    if ended.exists():  # the herd's time ran ahead of ours: it goes on where it was
        start = max(start, datetime.fromisoformat(ended.read_text(encoding="ascii")))
    origin_s = time.monotonic()
    clock = VirtualClock(start, speed, time.monotonic, origin_s)
    with Processes(folder / "log") as processes, contextlib.ExitStack() as stack:
        stack.callback(lambda: ended.write_text(clock.now().replace(microsecond=0).isoformat(), encoding="ascii"))
        broker = start_broker(processes, (folder / "broker").absolute())
        ptys = [(folder / f"tty-base-{n}").absolute() for n in (1, 2)]
        manifest = folder / "herd.json"
        manifest.unlink(missing_ok=True)
        simulator = [
            program("outpost-sim"), "herd", "--animals", animals, "--seed", seed, "--speed", speed,
            "--start", start.isoformat(), "--origin-s", origin_s, "--mqtt", f"127.0.0.1:{broker}",
            "--manifest", manifest,
        ]  # fmt: skip
        for pty in ptys:
            pty.unlink(missing_ok=True)  # left by a demo that was killed, it names somebody else's terminal by now
            simulator += ["--pty", pty]
        processes.start("herd", [str(part) for part in simulator])
        config = _station(folder, port, ptys, broker, start, speed, origin_s)
        _enrol(config, joining)
        url = _start_station(processes, folder, config)
        token = operator_tokens(load(config))
        _until(processes, manifest.exists, "the herd's manifest")
        herd = msgspec.json.decode(manifest.read_bytes(), type=list[Member])
        _deploy(url, herd, start, token)
        _say(url, folder, f"{animals} simulated animals, time runs {speed:g} times as fast")
        show_people(with_accounts(config, lambda accounts: demo_people(accounts, folder / "people.json")), console)
        watch(url, console, token=token, is_alive=lambda: _check(processes))
    return 0


def _replay(port: int, speed: float, seed: int, tracks: Path, joining: tuple[str, str] | None, *, once: bool) -> int:
    folder = FOLDER / "replay"
    _check_alone(folder)
    shutil.rmtree(folder, ignore_errors=True)
    individuals = _individuals(tracks)
    start = min(row.recorded_at for row in individuals.values())
    origin_s = time.monotonic()
    with Processes(folder / "log") as processes:
        broker = start_broker(processes, (folder / "broker").absolute())
        pty = (folder / "tty-base-1").absolute()
        config = _station(folder, port, [pty], broker, start, speed, origin_s)
        _enrol(config, joining)
        url = _start_station(processes, folder, config)
        token = operator_tokens(load(config))
        herd = [
            Member(name, row.species or "unknown", f"eui:{eui_for(name)}") for name, row in sorted(individuals.items())
        ]
        _deploy(url, herd, start, token)
        _say(url, folder, f"replaying {tracks} {speed:g} times as fast as it was recorded")
        command = [
            program("outpost-sim"), "replay", "--tracks", tracks, "--speed", speed, "--start", start.isoformat(),
            "--origin-s", origin_s, "--pty", pty, "--mqtt", f"127.0.0.1:{broker}", "--seed", seed,
            "--duplicate", 0.1, "--reorder", 20, "--corrupt", 0.02,
        ]  # fmt: skip
        replay = processes.start("replay", [str(part) for part in command])
        began = time.monotonic()
        watch(url, console, token=token, is_alive=lambda: _check(processes) and (replay.poll() is None or not once))
        _check(processes)
        fixes = _settle(url)
        console.print(f"\n{fixes} fixes stored {time.monotonic() - began:.0f} s after the first was sent")
        station = program("outpost-station")
        checks: list[list[str | Path]] = [[station, "verify", "--config", config, "--against", tracks, "--utc"]]
        if joining is not None:
            checks += [
                [station, "sync", "--once", "--config", config],
                [station, "verify", "--config", config, "--against", "cloud"],
            ]
        return max(subprocess.run(check, check=False).returncode for check in checks)


def _check_alone(folder: Path) -> None:
    """Raise ConfigError where another demo runs on this folder: it would lose its terminals to this one."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with sole_owner(folder / "data"):
        pass


def _enrol(config: Path, joining: tuple[str, str] | None) -> None:
    """Enrol the station at the cloud that was named, unless it is enrolled; raises ConfigError."""
    if joining is None:
        return
    enrolled = subprocess.run(
        [program("outpost-station"), "enrol", *joining, "--config", config], check=False, capture_output=True, text=True
    )
    said = (enrolled.stdout + enrolled.stderr).strip()
    if enrolled.returncode and "already enrolled" not in said:
        raise ConfigError(said)
    console.print(said, highlight=False, markup=False)


def _station(
    folder: Path, port: int, ptys: list[Path], broker: int, start: datetime, speed: float, origin_s: float
) -> Path:
    """Write the configuration of a demo station and, once, its key; return the configuration's path."""
    key = folder / "key" / "station.key"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        key.chmod(0o600)
    config = folder / "station.toml"
    links = "".join(
        f'\n[[links]]\nkind = "serial"\nname = "base-{number}"\npath = "{pty}"\n' for number, pty in enumerate(ptys, 1)
    )
    config.write_text(
        f'[station]\nid = "demo"\ndata_dir = "{(folder / "data").absolute()}"\n\n'
        f'[store]\nkey_file = "{key.absolute()}"\n\n'
        f"[api]\nport = {port}\n\n"
        f"[clock]\nvirtual_start = {start.isoformat()}\nvirtual_speed = {speed}\nvirtual_origin_s = {origin_s}\n"
        f'{links}\n[[links]]\nkind = "mqtt"\nname = "broker"\nhost = "127.0.0.1"\nport = {broker}\n'
        'client_id = "outpost-demo"\n',
        encoding="utf-8",
    )
    return config


def _start_station(processes: Processes, folder: Path, config: Path) -> str:
    url_file = folder / "data" / "station.url"
    url_file.unlink(missing_ok=True)
    waiting = "The station starts; its address comes next, on a slow machine after a minute."
    Console(stderr=True).print(waiting, highlight=False, soft_wrap=True)
    processes.start("station", [program("outpost-station"), "run", "--config", config])
    _until(processes, url_file.exists, "the station's address")
    url = url_file.read_text(encoding="ascii").strip()
    _until(processes, lambda: _is_ready(url), "the station")
    return url


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _until(processes: Processes, condition: Any, what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        _check(processes)
        if time.monotonic() > deadline:
            raise ConfigError(f"{what} did not come within {READY_S:.0f} s; see {FOLDER}/*/log")
        time.sleep(0.02)


def _check(processes: Processes) -> bool:
    fallen = processes.fallen()
    if fallen is not None:
        raise ConfigError(f"{fallen} has stopped:\n{processes.tail(fallen)}")
    return True


def _deploy(url: str, herd: list[Member], started_at: datetime, token: Callable[[], str]) -> None:
    """Enter the animals and their collars, those that an earlier start has not entered."""
    bearer = {"Authorization": f"Bearer {token()}"}
    with httpx.Client(base_url=f"{url}/api/v1", timeout=30, headers=bearer) as api:
        known: set[str] = set()
        page: str | None = "/animals/?page_size=500"
        while page:
            answer = api.get(page).raise_for_status().json()
            known |= {animal["collar_id"] for animal in answer["results"]}
            page = answer["next"]
        for member in herd:
            if member.device in known:
                continue
            body = {"name": member.name, "species": member.species}
            animal = api.post("/animals/", json=body).raise_for_status().json()
            if member.fix_interval_s:
                collar = {"collar_id": member.device, "fix_interval_s": member.fix_interval_s}
                api.put(f"/collars/{member.device}/", json=collar).raise_for_status()
            deployment = {
                "animal": animal["id"], "collar_id": member.device, "started_at": started_at.isoformat(),
            }  # fmt: skip
            api.post("/deployments/", json=deployment).raise_for_status()


def _individuals(tracks: Path) -> dict[str, TrackRow]:
    """Return each individual's earliest row."""
    first: dict[str, TrackRow] = {}
    for row in good_rows(tracks):
        if row.individual not in first or row.recorded_at < first[row.individual].recorded_at:
            first[row.individual] = row
    if not first:
        raise ConfigError(f"{tracks} holds no fix")
    return first


def _settle(url: str) -> int:
    """Wait until everything that was sent is decoded: nothing new for two seconds; return the number of fixes."""
    deadline = time.monotonic() + SETTLE_S
    fixes, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        detail = httpx.get(f"{url}/health/detail").json()
        now = detail["store"]["fixes"]
        if now != fixes or detail["ledger"]["pending"]:
            fixes, since = now, time.monotonic()
        elif time.monotonic() - since > 2.0:
            break
        time.sleep(0.2)
    return fixes


def _say(url: str, folder: Path, what: str) -> None:
    console.print(f"[bold]{url}[/]  {what}", highlight=False, soft_wrap=True)
    console.print(
        f"API {url}/api/docs/   health {url}/health/detail   logs {folder}/log", highlight=False, soft_wrap=True
    )
    console.print("It answers on this machine only, as api.host says. Ctrl-C ends everything.\n", highlight=False)


if __name__ == "__main__":
    typer.run(main)
