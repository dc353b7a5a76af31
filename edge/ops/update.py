"""Signed updates: a release beside the installed one, taken into use, and left again after three starts that failed.

::

    RELEASES/0.2.0/       the program of that package, unpacked
    RELEASES/current      which release runs; none: the installed one      (``deploy/outpost-release`` reads and
    RELEASES/previous     which it goes back to; none: the installed one    writes these two)
    RELEASES/trial        how often the new one was started; gone once it was ready

What a file is and who must have signed it: ``shared.wire.releases``. A release never writes where
the former one lies, and the database has a proved copy from before its schema changed, so going back loses nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from edge.store.driver import connect
from edge.store.migrate import migrations, schema_version
from edge.store.snapshot import begin_anew, contents_of, set_aside, sync
from shared.errors import Conflict, Invalid, StoreError, StoreFull
from shared.wire.releases import READY, VERSION, Header, Offer, numbers, read_header

_CHUNK_BYTES: Final = 1 << 20
#: Where the program lies in a package.
_PROGRAM: Final = Path("usr/lib/outpost")
_TRIED_S: Final = 120.0
PACKAGED: Final = "installed"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """An update that was taken into use, and what the station goes back to where it does not start."""

    version: str
    goes_back_to: str
    needs_restart: bool


def take(
    file: Path,
    releases: Path,
    public_keys: Sequence[str],
    *,
    running: str,
    architecture: str,
    allows_older: bool = False,
) -> Taken:
    """Unpack an update beside what runs and have the next start use it; raises Invalid or Conflict, nothing changed.

    ``running`` is the version of this program.
    """
    releases.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = releases / ".part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        with file.open("rb") as source:
            header = read_header(source, file, public_keys)
            _check(header, file, running, architecture, allows_older=allows_older)
            part.mkdir(mode=0o755)
            _copy(source, part / "package.deb", header, file)
        _unpack(part, header)
        final = releases / header.version
        if current_of(releases) == header.version or previous_of(releases) == header.version:
            raise Conflict(f"{header.version} is there already")
        shutil.rmtree(final, ignore_errors=True)
        (part / "tree" / _PROGRAM).rename(final)
        os.sync()  # thousands of files, before a name leads to them
    except OSError as error:
        raise StoreFull(f"{error.filename or file}: {error.strerror}; nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    former = current_of(releases)
    _switch(releases, header.version, former)
    for old in releases.iterdir():
        if VERSION.fullmatch(old.name) and old.name not in (header.version, former):
            shutil.rmtree(old)
    return Taken(version=header.version, goes_back_to=former or PACKAGED, needs_restart=True)


def wants(releases: Path, offer: Offer, *, running: str, architecture: str) -> bool:
    """Say whether a release is news here: newer than what runs, for this machine, and not one that was left before."""
    if VERSION.fullmatch(offer.version) is None or offer.architecture not in (architecture, "all"):
        return False
    left = releases / "left"
    was_left = left.exists() and left.read_text(encoding="ascii").strip() == offer.version
    is_taken = offer.version in (current_of(releases), previous_of(releases))
    return not (was_left or is_taken) and numbers(offer.version) > numbers(running)


def take_fetched(
    inbox: Path, releases: Path, public_keys: Sequence[str], *, running: str, architecture: str
) -> Taken | None:
    """Take the update that the station fetched into use; None where it fetched none. Its file is gone afterwards.

    One that is refused is gone too: the station fetches it anew where the cloud still offers it. Raises as ``take``;
    after StoreFull the file waits for room.
    """
    file = inbox / READY
    if not file.exists():
        return None
    try:
        taken = take(file, releases, public_keys, running=running, architecture=architecture)
    except (Conflict, Invalid):
        file.unlink(missing_ok=True)
        raise
    file.unlink()
    return taken


def current_of(releases: Path) -> str:
    """Return which release runs; "" is the installed one."""
    return _named(releases / "current")


def previous_of(releases: Path) -> str:
    """Return which release is gone back to; "" is the installed one."""
    return _named(releases / "previous")


def back_to_schema(database: Path, key: bytes | None, epoch: str) -> Path | None:
    """Put the copy from before a failed release's schema back, and return where the newer database lies now.

    None where there is nothing to do. Only after a release that never was ready: nobody has edited anything since, and
    the frames that it decoded lie in the ledger and are decoded again.
    """
    if not database.exists():
        return None
    connection = connect(database, key, is_spatial=False, is_readonly=True)
    try:
        found, known = schema_version(connection), len(migrations())
    finally:
        connection.close()
    if found <= known:
        return None
    copies = {
        int(path.suffix.rpartition("-")[2]): path for path in database.parent.glob(f"{database.name}.schema-*[0-9]")
    }
    fitting = [number for number in copies if number <= known]
    if not fitting:
        raise StoreError(f"{database}: has schema {found}, this program {known}, and there is no copy from before")
    copy = copies[max(fitting)]
    contents_of(copy, key)  # every page of it
    fresh = database.with_name(f"{database.name}.back")
    shutil.copyfile(copy, fresh)
    fresh.chmod(0o600)
    sync(fresh)
    kept = set_aside(database, f"schema-{found}-left")
    fresh.rename(database)
    sync(database.parent)
    begin_anew(database, key, epoch)
    return kept


def this_architecture() -> str:
    """Return Debian's word for this machine."""
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    return known.get(platform.machine(), platform.machine())


def _check(header: Header, file: Path, running: str, architecture: str, *, allows_older: bool) -> None:
    if header.architecture not in (architecture, "all"):
        raise Invalid(f"{file}: is for {header.architecture}, this machine is {architecture}")
    if not allows_older and numbers(header.version) <= numbers(running):
        raise Conflict(f"{file}: has version {header.version} and {running} runs; --older takes it all the same")


def _copy(source: IO[bytes], target: Path, header: Header, file: Path) -> None:
    digest, left = hashlib.sha256(), header.size_bytes
    with target.open("wb") as out:
        while left and (chunk := source.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
    if left or source.read(1) or digest.hexdigest() != header.sha256:
        raise Invalid(f"{file}: its package is not the one that was signed: copy the file again")


def _unpack(part: Path, header: Header) -> None:
    """Unpack a package and see its program say its version, as it will run."""
    _ran(["dpkg-deb", "--extract", part / "package.deb", part / "tree"])
    program = part / "tree" / _PROGRAM
    said = _ran([program / "bin" / "python", "-I", program / "bin" / "outpost-station", "--version"]).strip()
    if said != header.version:
        raise Invalid(f"the update's program says {said!r} and its header {header.version}")


def _ran(command: Sequence[str | Path]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIED_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Invalid(f"{command[0]} does not run: {error}; nothing was changed") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Invalid(f"{Path(command[0]).name} failed: {words[-1] if words else done.returncode}; nothing was changed")
    return done.stdout


def _switch(releases: Path, version: str, former: str) -> None:
    """Have ``version`` run on trial; in an order in which a cut between two steps leaves something that starts."""
    if former:
        _link(releases / "previous", former)
    else:
        (releases / "previous").unlink(missing_ok=True)
    for told in ("rolled-back", "left"):
        (releases / told).unlink(missing_ok=True)
    (releases / "trial").write_text("0\n", encoding="ascii")
    sync(releases / "trial")
    _link(releases / "current", version)
    sync(releases)


def _link(path: Path, target: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)


def _named(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""
