"""What may be wrong at a station, looked for one by one: each trouble with its cause and the next step.

A look is a function from ``Scene`` to findings; it opens what it needs and changes nothing. A fault keeps the station
from its work or its data in danger; a warning waits until somebody has
time. What a look cannot tell it says nothing of.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.config import Config
from edge.store.driver import Connection, connect, quick_check
from edge.store.ledger import LedgerReader
from edge.store.migrate import migrations, schema_version
from models.live.runtime import Models
from shared.errors import ConfigError, OutpostError, SchemaTooNew, WrongKey
from shared.findings import Finding, fault, fine, look_at_memory, look_at_python, warning

#: What a station cannot be without; each has one home in the code, which imports it on first use or at the start.
PACKAGES: Final = (
    "argon2", "cryptography", "httptools", "httpx", "litestar", "msgspec", "numpy", "onnxruntime", "paho", "pyproj",
    "serial", "sqlcipher3", "structlog", "uvicorn", "zstandard",
)  # fmt: skip
#: The station reserves the second for itself and begins to make room at the first; ``edge.ops.room`` acts in between.
WARN_SHARE: Final = 0.2
RESERVE_BYTES: Final = 250 * 2**20
SLOW_ANSWER_S: Final = 2.0


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What the looks see: the configuration, the key where there is one, what the running station says of itself."""

    config: Config
    key: bytes | None = None
    key_error: str = ""
    #: ``/health/detail`` of the running station, None where none answers
    detail: dict[str, Any] | None = None
    detail_error: str = ""
    answered_in_s: float = 0.0
    is_running: bool = False
    models: Path | None = None
    meminfo: Path = Path("/proc/meminfo")
    usage: Callable[[Path], Any] = shutil.disk_usage

    def reads(self) -> bool:
        """Say whether the database can be opened at all."""
        return not self.key_error and self.config.database.exists()


Look = Callable[[Scene], Finding]


def look_around(scene: Scene, *, with_pages: bool = True) -> list[Finding]:
    """Return what every look found, in the order in which a person would ask."""
    looks = LOOKS if with_pages else [look for look in LOOKS if look not in (database, ledger)]
    return [look(scene) for look in looks]


def python(_: Scene) -> Finding:
    """Whether the interpreter is new enough and all packages are there."""
    step = "a file of the installation is gone: `dpkg --verify outpost-station` names it, install the package again"
    return look_at_python(PACKAGES, next_step=step)


def key(scene: Scene) -> Finding:
    """Whether the key is at hand, and on another medium than the data."""
    store = scene.config.store
    if scene.key_error:
        return fault(
            "key", scene.key_error,
            f"plug in the medium of {store.key_file}, or unlock the station by hand with `outpost-station unlock`; a"
            " backup and the emergency kit bring the key on a new box",
        )  # fmt: skip
    if not store.is_encrypted:
        return warning(
            "key", "the data is not encrypted", "whoever finds the card reads every position; see store.is_encrypted"
        )
    with contextlib.suppress(OSError):
        if store.key_file.stat().st_dev == scene.config.station.data_dir.stat().st_dev:
            return warning(
                "key", f"{store.key_file} lies on one medium with the data: together they protect nothing",
                "move it to a USB token and name it in store.key_file",
            )  # fmt: skip
    return fine("key")


def database(scene: Scene) -> Finding:
    """Whether every page of the database adds up."""
    path = scene.config.database
    if not path.exists():
        return fault("database", f"there is no {path}", "`outpost-station init` makes one, `restore` brings a backup")
    if scene.key_error:
        return warning("database", "it cannot be looked at without the key", "bring the key")
    try:
        db = connect(path, scene.key, is_spatial=False, is_readonly=True)
        try:
            if (found := schema_version(db)) > len(migrations()):
                raise SchemaTooNew(found, len(migrations()))
            quick_check(db, path)
        finally:
            db.close()
    except SchemaTooNew as error:
        return fault("database", error.detail, "install the newer version, or restore a backup of this one's time")
    except WrongKey as error:
        return fault("database", error.detail, "bring the key that the station was made with")
    except OutpostError as error:
        return fault(
            "database", error.detail,
            "restart the station: it sets a damaged file aside, takes the newest good copy and reads the ledger again",
        )  # fmt: skip
    return fine("database")


def ledger(scene: Scene) -> Finding:
    """Whether every page of the ledger adds up."""
    if scene.key_error:
        return warning("ledger", "it cannot be looked at without the key", "bring the key")
    reader = LedgerReader(scene.config.ledger_dir, scene.key)
    try:
        reader.check()
    except OutpostError as error:
        return fault(
            "ledger", error.detail,
            "nothing is to be done: it is closed and read as far as it goes; copy it away and look at the medium",
        )  # fmt: skip
    finally:
        reader.close()
    return fine("ledger")


def models(scene: Scene) -> Finding:
    """Whether the models' files are what their manifests say."""
    refused = (Models() if scene.models is None else Models(scene.models)).load()
    if refused:
        said = "; ".join(f"{name}: {why}" for name, why in sorted(refused.items()))
        return warning("models", said, "install the package again; the last good version stays in use meanwhile")
    return fine("models")


def memory(scene: Scene) -> Finding:
    """Whether memory is left."""
    step = "end other programs (`ps aux --sort=-rss | head`); systemd ends them before the station"
    return look_at_memory(scene.meminfo, next_step=step)


def disk(scene: Scene) -> Finding:
    """Whether there is room."""
    try:
        usage = scene.usage(scene.config.station.data_dir)
    except OSError as error:
        return fault("disk", f"{scene.config.station.data_dir}: {error.strerror}", "mount the medium of the data")
    step = (
        "move backups to another medium (backup.dir), reach the cloud so that raw frames may go, or take a larger one"
    )
    if usage.free < RESERVE_BYTES:
        return fault("disk", f"{usage.free // 2**20} MiB are left: frames are refused", step)
    if usage.free < usage.total * WARN_SHARE:
        return warning("disk", f"it is {100 - 100 * usage.free // usage.total} % full", step)
    return fine("disk")


def service(scene: Scene) -> Finding:
    """Whether the station runs and answers."""
    if scene.detail is not None:
        return fine("service")
    if scene.is_running:
        return fault(
            "service", f"it runs and does not answer: {scene.detail_error}",
            "`journalctl -u outpost-station -n 100`, then `sudo systemctl restart outpost-station`",
        )  # fmt: skip
    return warning(
        "service", "the station does not run",
        "`sudo systemctl start outpost-station`; `journalctl -u outpost-station -n 100` says why it ended",
    )  # fmt: skip


def answers(scene: Scene) -> Finding:
    """Whether answers come in time."""
    if scene.detail is None or scene.answered_in_s < SLOW_ANSWER_S:
        return fine("answers")
    return warning(
        "answers", f"its health took {scene.answered_in_s:.1f} s to answer",
        '`journalctl -u outpost-station -o cat | grep -E "store.slow|api.slow"` names what takes long',
    )  # fmt: skip


def clock(scene: Scene) -> Finding:
    """Whether the time is sure."""
    if scene.detail is None or scene.detail["clock"]["is_sure"]:
        return fine("clock")
    return warning(
        "clock", f"the clock is {scene.detail['clock']['state']}: nothing expires and nobody is called silent",
        "give the receiver a view of the sky (clock.gnss_links), or set it as an administrator on the page",
    )  # fmt: skip


def serial(scene: Scene) -> Finding:
    """Whether every serial base station is plugged in and heard."""
    gone = [link for link in scene.config.links if link.kind == "serial" and not Path(link.path).exists()]
    if gone:
        return fault(
            "serial", "; ".join(f"{link.name}: there is no {link.path}" for link in gone),
            "plug it in; `ls /dev/outpost /dev/serial/by-id` shows the names that stay theirs",
        )  # fmt: skip
    return _links(scene, "serial", "look whether another program has it (`sudo fuser -v PORT`) and at cable and power")


def broker(scene: Scene) -> Finding:
    """Whether every broker is reached."""
    return _links(
        scene, "mqtt", "`systemctl status mosquitto`; host, port, user and certificate of the link in station.toml"
    )


def collars(scene: Scene) -> Finding:
    """Whether a collar is silent."""
    if not scene.reads():
        return fine("collars")
    try:
        db = connect(scene.config.database, scene.key, is_spatial=False, is_readonly=True)
    except OutpostError:
        return fine("collars")  # the look at the database says so
    try:
        silent = _silent(db)
    finally:
        db.close()
    if not silent:
        return fine("collars")
    return warning(
        "collars", f"{len(silent)} silent for longer than their schedule: {', '.join(silent[:5])}",
        "`outpost-station status`: is the base station heard? then go where the animal was last, with a receiver",
    )  # fmt: skip


def undecoded(scene: Scene) -> Finding:
    """Whether frames wait that nobody can read."""
    if scene.detail is None or not scene.detail["ledger"]["undecoded"]:
        return fine("undecoded")
    return warning(
        "undecoded", f"{scene.detail['ledger']['undecoded']} frames cannot be read; they are kept",
        "the page lists them with the reason; after an update or another `fmt` of the link: `outpost-station redecode`",
    )  # fmt: skip


def backups(scene: Scene) -> Finding:
    """Whether backups are made, proved, and elsewhere."""
    said = None if scene.detail is None else scene.detail.get("backup")
    if said is None:
        return fine("backups")
    if said["last_error"]:
        return fault("backups", said["last_error"], "mount the medium of backup.dir; then `outpost-station backup`")
    if said["is_on_the_same_medium"]:
        return warning("backups", "they lie on the medium of the data and die with it", "name another in backup.dir")
    return fine("backups")


def cloud(scene: Scene) -> Finding:
    """Whether what waits reaches the cloud, where the station is enrolled at one."""
    said = None if scene.detail is None else scene.detail.get("cloud")
    if said is None or said["station_id"] is None or not said["last_error"]:
        return fine("cloud")
    return warning(
        "cloud", said["last_error"], "nothing is lost meanwhile; `outpost-station sync --once` tries now and says why"
    )


def codes(scene: Scene) -> Finding:
    """Whether people can log in: a station sends no codes, an app makes them, and that needs the time."""
    if scene.detail is None or scene.detail["clock"]["is_sure"]:
        return fine("codes")
    return warning(
        "codes", "a station sends no codes; on an unsure clock the app's next one is asked for too",
        "enter two codes in a row, or a recovery code; then set the clock",
    )  # fmt: skip


LOOKS: Final[Sequence[Look]] = (
    service, answers, python, key, database, ledger, models, memory, disk, clock, serial, broker, collars, undecoded,
    backups, cloud, codes,
)  # fmt: skip


def key_of(config: Config) -> tuple[bytes | None, str]:
    """Return the key and, where it cannot be had, why."""
    try:
        return config.key(), ""
    except ConfigError as error:
        return None, error.detail


def _links(scene: Scene, kind: str, step: str) -> Finding:
    name = "serial" if kind == "serial" else "broker"
    told = [] if scene.detail is None else scene.detail["links"]
    down = [link for link in told if link["kind"] == kind and not link["is_up"]]
    if not down:
        return fine(name)
    return fault(name, "; ".join(f"{link['name']}: {link['last_error'] or 'is down'}" for link in down), step)


def _silent(db: Connection) -> list[str]:
    if schema_version(db) != len(migrations()):
        return []
    rows = db.execute(
        "SELECT coalesce(a.name, alerts.animal_id, '?') FROM alerts LEFT JOIN animals a ON a.id = alerts.animal_id"
        " WHERE alerts.alert_type = 'silent_collar' AND alerts.status IN ('active', 'acknowledged')"
        " AND alerts.deleted_ms IS NULL ORDER BY 1"
    ).fetchall()
    return [str(name) for (name,) in rows]
