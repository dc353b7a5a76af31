"""Station and cloud agree in the end, whatever happens in between: nothing is lost, nothing happens twice.

Edits of the same records at several homes, deletions among them, operations that no cloud can do, programs that are
ahead of the cloud, lost and late and damaged and repeated requests, cards put back and cloned, a cloud put back. Each
rule is then broken alone, and must be missed.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Final

import msgspec
import pytest

from shared.sync.streams import Apply, Batch, Fork, Gap, Head, Reception, Replay
from tests.property.homes_in_memory import Item, Rules
from tests.property.world_in_memory import World
from tests.schedules import SCHEDULES, Effort, Schedule, anything, duties, forgetful, month_away, two_histories

pytestmark = pytest.mark.sync

SEEDS: Final = 3_000 if os.environ.get("OUTPOST_NIGHTLY") else 300
EFFORT: Final[dict[Schedule, Effort]] = {
    anything: Effort(steps=140, fixes_at_once=6),
    two_histories: Effort(steps=0, fixes_at_once=6),
    forgetful: Effort(steps=60, fixes_at_once=6),
    month_away: Effort(steps=80, fixes_at_once=6),
    duties: Effort(steps=90, fixes_at_once=6),
}
#: What must have happened in a third of the seeds of ``anything`` at least, or they prove little.
EVENTS: Final = (
    "request lost", "answer lost", "damaged", "late", "repeated", "half open", "late request", "station put back",
    "card cloned", "cloud restored", "poison", "program ahead",
)  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_is_lost_nothing_happens_twice_and_all_homes_are_equal(schedule: Schedule) -> None:
    events: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for seed in range(SEEDS):
        world = played(schedule, seed, Rules())
        assert world.faults() == [], f"seed {seed}"
        events += world.events
        outcomes.update(world.cloud.outcomes.values())
    print(f"{schedule.__name__}, {SEEDS} seeds: {sum(outcomes.values())} operations, {dict(events)}, {dict(outcomes)}")
    if schedule is anything:
        assert {name for name in EVENTS if events[name] >= SEEDS / 3} == set(EVENTS), events
        assert {"applied", "merged", "superseded", "quarantined"} <= {it for it in outcomes if outcomes[it] > SEEDS}


# --- each rule broken alone


class ReplaysByNumber(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        return Replay() if batch.n <= head.n else super().receive(head, stored_hash, batch, claimed_hash)


class IgnoresPrevHash(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        taken = super().receive(head, stored_hash, batch, claimed_hash)
        return Apply(batch.head) if isinstance(taken, Fork) and batch.n == head.n + 1 else taken


class IgnoresGaps(Rules):
    def receive(self, head: Head, stored_hash: bytes | None, batch: Batch, claimed_hash: bytes) -> Reception:
        taken = super().receive(head, stored_hash, batch, claimed_hash)
        return Apply(batch.head) if isinstance(taken, Gap) else taken


class TakesOperationsAgain(Rules):
    dedupes_operations = False


class TakesFixesAgain(Rules):
    dedupes_fixes = False


class PoisonBlocks(Rules):
    quarantines = False


class RefusesLaterPrograms(Rules):
    """A batch of a later version is an error of the server until somebody installs a later cloud."""

    def opened(self, version: int, items: Any) -> list[Item] | None:
        held = super().opened(version, items)
        self.quarantines = held is not None
        return held


class ReadsLaterProgramsAsItsOwn(Rules):
    """What this cloud cannot read it takes for an empty batch."""

    def opened(self, version: int, items: Any) -> list[Item] | None:
        held = super().opened(version, items)
        return [] if held is None else held


class TellsNoRulings(Rules):
    sends_rulings = False


class RulesOnce(Rules):
    """Whoever brings again what was ruled on long ago hears of the receipt alone."""

    repeats_rulings = False


class ForgetsTombstones(Rules):
    sends_tombstones = False


class TakesWhatComesDownOverEdits(Rules):
    keeps_edits_on_top = False


class NamesNoBaseRevision(Rules):
    """Whatever its author knew, an edit claims to know everything."""

    names_base_revisions = False


class CursorRunsAhead(Rules):
    """As one does that counts with a sequence: a number may be passed over before its row is there."""

    cursor_runs_ahead = True


class OldCloudEpoch(Rules):
    restored_cloud_has_new_epoch = False


class KeepsRevisionsInANewLife(Rules):
    forgets_revisions_in_a_new_life = False


class DropsTheOutboxInANewLife(Rules):
    keeps_outbox_in_a_new_life = False


class OffersNothingInANewLife(Rules):
    offers_what_it_knows_in_a_new_life = False


class CountsRevisionsOnInANewLife(Rules):
    tells_lives_apart_by_revision = False


class DropsAcknowledged(Rules):
    keeps_acknowledged = False


class NeverComparesHeads(Rules):
    compares_heads = False


class KeepsWhatLeft(Rules):
    """What is not in a station's scope any more is not told to it, and stays."""

    tells_what_left = False


class NeverBackfills(Rules):
    """What enters a station's scope is told when it changes next."""

    tells_what_entered = False


class TellsEverybodyEverything(Rules):
    hides_what_is_out_of_scope = False


MUTANTS: Final = (
    ReplaysByNumber, IgnoresPrevHash, IgnoresGaps, TakesOperationsAgain, TakesFixesAgain, PoisonBlocks,
    RefusesLaterPrograms, ReadsLaterProgramsAsItsOwn, TellsNoRulings, RulesOnce, ForgetsTombstones,
    TakesWhatComesDownOverEdits, NamesNoBaseRevision, CursorRunsAhead, OldCloudEpoch, KeepsRevisionsInANewLife,
    DropsTheOutboxInANewLife, OffersNothingInANewLife, CountsRevisionsOnInANewLife, DropsAcknowledged,
    NeverComparesHeads, KeepsWhatLeft, NeverBackfills, TellsEverybodyEverything,
)  # fmt: skip
_TRIED: Final = 40


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_noticed(mutant: type[Rules]) -> None:
    tries = ((schedule, seed) for seed in range(_TRIED) for schedule in SCHEDULES)
    assert any(is_noticed(schedule, seed, mutant()) for schedule, seed in tries)


def test_without_prev_hash_two_histories_are_noticed_in_most_seeds() -> None:
    noticed = sum(is_noticed(two_histories, seed, IgnoresPrevHash()) for seed in range(_TRIED))
    print(f"without prev_hash: noticed in {noticed} of {_TRIED} seeds")
    assert noticed > _TRIED * 0.6


def played(schedule: Schedule, seed: int, rules: Rules) -> World:
    world = World(seed, rules)
    world.play(schedule(seed, EFFORT[schedule]))
    return world


def is_noticed(schedule: Schedule, seed: int, rules: Rules) -> bool:
    try:
        return bool(played(schedule, seed, rules).faults())
    except (AssertionError, KeyError, msgspec.ValidationError):
        return True
