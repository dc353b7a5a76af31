"""``outpost-station season``: what a season leaves behind is archived, and what can be computed again is taken off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from edge.app import sole_owner
from edge.config import DEFAULT_PATH, Config, load
from edge.ops.backup import daily
from edge.ops.system_clock import system_clock
from edge.parts import accounts_of, backed_up
from edge.store import season
from edge.store.compacting import Pages, compact, needed_bytes, pages
from edge.store.driver import Connection
from edge.store.season import Past
from edge.store.store import SpatialiteStore
from edge.terminal import ConfigOption, JsonOption, progress_of, with_store
from shared.accounts.audit import Entry
from shared.console import print_facts
from shared.errors import ConfigError, Conflict, Invalid, StoreFull
from shared.privacy import OPERATOR
from shared.sync.records import from_ms, to_ms

#: So much before the newest step stays in any case: what pages show, and what rangers ask for.
KEPT: Final = timedelta(days=30)
#: A transaction takes so many rows: some tens of milliseconds in which the station waits.
ROWS_AT_ONCE: Final = 2_000

seasons = typer.Typer(help="The end of a season.", no_args_is_help=True)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of a season would do."""

    past: Past
    waiting: dict[str, int]
    newest_ms: int | None
    pages: Pages


@seasons.callback()
def _named() -> None:
    """The end of a season."""


@seasons.command("end")
def end(
    before: Annotated[str, typer.Option(help="The day that the season ended with, like 2026-10-31 (UTC, exclusive).")],
    config: ConfigOption = None,
    is_look: Annotated[bool, typer.Option("--look", help="Only say what would be done.")] = False,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Archive the station and take off what can be computed again: states of steps, predictions. Fixes stay.

    Refused while anything of that time is not in the cloud yet. The station may run; the file is compacted where it
    does not. Cut anywhere, it is begun again with the same words.
    """
    settings, before_ms = load(config), to_ms(_day(before))
    if not settings.database.exists():
        raise ConfigError(f"{settings.database}: there is no station here yet; `outpost-station init` makes one")
    plan = with_store(settings, lambda store: store.read(lambda db: _plan(db, before_ms)))
    if is_look or not as_json:
        print_facts(_told(plan, settings), as_json=as_json)
    _refuse(plan, before_ms)
    if is_look:
        return
    if not is_sure and not typer.confirm("Make an archive and take that off?", err=True):
        raise typer.Exit(1)
    archive = _archived(settings, config, as_json=as_json)
    gone = _forgotten(settings, before, before_ms, plan.past, archive, as_json=as_json)
    done = {"archive": str(archive), "steps": plan.past.steps, "predictions": plan.past.predictions, "rows": gone}
    print_facts({**done, **_compacted(settings, as_json=as_json)}, as_json=as_json)


def _plan(db: Connection, before_ms: int) -> Plan:
    return Plan(
        past=season.past(db, before_ms), waiting=season.waiting(db, before_ms), newest_ms=season.newest_step_ms(db),
        pages=pages(db),
    )  # fmt: skip


def _told(plan: Plan, settings: Config) -> dict[str, Any]:
    return {
        "steps": plan.past.steps,
        "predictions": plan.past.predictions,
        "not in the cloud": plan.waiting,
        "database bytes": plan.pages.size_bytes,
        "empty bytes": plan.pages.empty_bytes,
        "needed to compact": needed_bytes(plan.pages),
        "archive goes to": str(settings.backup_dir / "daily"),
    }


def _refuse(plan: Plan, before_ms: int) -> None:
    if plan.waiting:
        what = ", ".join(f"{items} {channel}" for channel, items in plan.waiting.items())
        raise Conflict(f"not in the cloud yet: {what}; nothing was removed. `outpost-station sync --once` brings it")
    if plan.newest_ms is not None and before_ms > plan.newest_ms - KEPT // timedelta(milliseconds=1):
        latest = from_ms(plan.newest_ms) - KEPT
        raise Invalid(f"--before: the newest {KEPT.days} days stay, so name {latest:%Y-%m-%d} or a day before it")


def _archived(settings: Config, config: Path | None, *, as_json: bool) -> Path:
    file = config or DEFAULT_PATH
    source = backed_up(settings, file if file.exists() else None, settings.key())
    total = 0
    with progress_of("sealing and proving", as_json=as_json) as advance:

        def add(size_bytes: int) -> None:
            nonlocal total
            total += size_bytes
            advance(total)

        made = daily(source, settings.backup_dir, datetime.now(UTC), kept=settings.backup.daily_kept, progress=add)
    return made.path


def _forgotten(settings: Config, before: str, before_ms: int, past: Past, archive: Path, *, as_json: bool) -> int:
    """Take off what is past, step by step; both ends of it are in the audit log."""

    async def job(store: SpatialiteStore) -> int:
        accounts = await accounts_of(settings, store, system_clock())

        async def note(act: str, words: str) -> None:
            await accounts.note([Entry(to_ms(datetime.now(UTC)), OPERATOR.user_id, act, words)])

        await note("season.end", f"before {before}: {past.steps} steps, {past.predictions} predictions; {archive.name}")
        gone = 0
        with progress_of("taking off", as_json=as_json, total=past.steps + past.predictions) as advance:
            while rows := await store.write(lambda db: season.forget(db, before_ms, ROWS_AT_ONCE)):
                gone += rows
                advance(gone)
        await note("season.ended", f"before {before}: {gone} rows")
        return gone

    return with_store(settings, job)


def _compacted(settings: Config, *, as_json: bool) -> dict[str, Any]:
    """Give empty pages back to the disk where that can be done now, and say why where it cannot."""
    found = with_store(settings, lambda store: store.read(pages))
    if not found.is_worth_it:
        return {"database bytes": found.size_bytes, "compacted": False, "why": "little of it is empty"}
    try:
        with sole_owner(settings.station.data_dir), progress_of("compacting", as_json=as_json):
            after = compact(settings.database, settings.key())
    except (ConfigError, Conflict, StoreFull) as error:
        why = f"{error.detail}; its {found.empty_bytes:,} empty bytes are used again by what comes"
        return {"database bytes": found.size_bytes, "compacted": False, "why": why}
    return {"database bytes": after.size_bytes, "compacted": True, "given back": found.size_bytes - after.size_bytes}


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise Invalid("--before: name a day, like 2026-10-31") from error
