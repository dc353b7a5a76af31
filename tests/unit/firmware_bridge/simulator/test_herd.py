from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from firmware_bridge.codecs import opencollar
from firmware_bridge.codecs.opencollar import OpenCollarCodec
from firmware_bridge.simulator.collar import MAX_UPLINK_BYTES, Habits
from firmware_bridge.simulator.herd import FIELD, PERFECT, Herd, herd_manifest, write_manifest
from firmware_bridge.simulator.tracks import eui_for
from firmware_bridge.simulator.transmission import Transmission

pytestmark = pytest.mark.unit

START = datetime(2026, 1, 1, tzinfo=UTC)


def sent_by(herd: Herd, *, hours: float) -> list[Transmission]:
    end = START + timedelta(hours=hours)
    return list(itertools.takewhile(lambda sent: sent.at <= end, herd.transmissions()))


def herd(habits: Habits = PERFECT, *, animals: int = 5, seed: int = 1, fix_interval_s: int = 900) -> Herd:
    return Herd(animals=animals, seed=seed, start=START, fix_interval_s=fix_interval_s, habits=habits)


def test_one_seed_gives_the_same_bytes_twice() -> None:
    assert sent_by(herd(FIELD), hours=48) == sent_by(herd(FIELD), hours=48)
    assert sent_by(herd(FIELD), hours=48) != sent_by(herd(FIELD, seed=2), hours=48)


def test_a_perfect_collar_sends_one_good_fix_per_interval() -> None:
    sent = sent_by(herd(animals=1), hours=24.5)
    fixes = [sent for sent in sent if sent.port == opencollar.PORT_LONG]
    times = [each.fixes[0].recorded_at for each in fixes]
    assert times[:97] == [START + timedelta(seconds=900 * n) for n in range(97)]
    assert all(each.fixes[0].lon_deg is not None for each in fixes)
    assert any(each.port == opencollar.PORT_STATUS for each in sent)


def test_nothing_is_sent_before_it_happened_and_all_is_in_order() -> None:
    sent = sent_by(herd(FIELD), hours=24 * 10)
    assert [each.at for each in sent] == sorted(each.at for each in sent)
    for each in sent:
        assert all(fix.recorded_at <= each.at for fix in each.fixes)


def test_every_message_can_be_read_and_says_what_the_gateway_would() -> None:
    codec = OpenCollarCodec()
    ports = set()
    for each in sent_by(herd(FIELD), hours=24 * 10):
        assert each.message is not None
        uplinks = codec.decode(each.message, port=each.port)
        ports.add(each.port)
        read = [(fix.recorded_at, fix.lon_deg, fix.lat_deg) for uplink in uplinks for fix in uplink.fixes]
        assert read == [(fix.recorded_at, fix.lon_deg, fix.lat_deg) for fix in each.fixes]
    assert ports == {
        opencollar.PORT_LONG,
        opencollar.PORT_STATUS,
        opencollar.PORT_RESEND,
        opencollar.PORT_FLASH_LOG,
    }


def test_a_collar_out_of_coverage_sends_nothing_and_then_all_at_once() -> None:
    habits = Habits(leaves_coverage=0.02, mean_outage_s=5 * 3600.0)
    sent = sent_by(herd(habits, animals=1), hours=24 * 30)
    dumps = [each for each in sent if each.port == opencollar.PORT_FLASH_LOG]
    assert dumps
    assert all(each.message is not None and len(each.message) <= MAX_UPLINK_BYTES for each in dumps)
    # Nothing is lost: up to the last dump the fixes have no gap.
    known = {fix.recorded_at for each in sent for fix in each.fixes}
    end = dumps[-1].fixes[-1].recorded_at
    expected = {START + timedelta(seconds=900 * n) for n in range(int((end - START).total_seconds()) // 900 + 1)}
    assert expected <= known
    late = max(each.at - min(fix.recorded_at for fix in each.fixes) for each in dumps)
    assert late > timedelta(hours=2)


def test_after_a_reboot_the_clock_is_wrong_until_the_next_satellites() -> None:
    sent = sent_by(herd(Habits(reboot=0.01), animals=1), hours=24 * 30)
    times = [fix.recorded_at for each in sent for fix in each.fixes]
    wrong = [time for time in times if time < START]
    assert wrong
    assert all(datetime(2020, 11, 25, tzinfo=UTC) < time < datetime(2020, 11, 26, tzinfo=UTC) for time in wrong)
    assert times[-1] > START + timedelta(days=29)


def test_failed_fixes_have_no_position() -> None:
    sent = sent_by(herd(Habits(failed_fix=0.5), animals=1), hours=100)
    fixes = [fix for each in sent for fix in each.fixes]
    failed = [fix for fix in fixes if fix.lon_deg is None]
    assert 0.3 < len(failed) / len(fixes) < 0.7


def test_a_worn_out_collar_runs_low() -> None:
    sent = sent_by(herd(FIELD, animals=8, fix_interval_s=7200), hours=24 * 30)
    statuses = [
        uplink.status
        for each in sent
        if each.port == opencollar.PORT_STATUS and each.message is not None
        for uplink in OpenCollarCodec().decode(each.message, port=each.port)
    ]
    assert any("bat" in status.errors for status in statuses if status is not None)


def test_the_manifest_names_each_animal_with_its_radio(tmp_path: Path) -> None:
    path = tmp_path / "new" / "herd.json"
    write_manifest(path, herd_manifest(animals=12, fix_interval_s=600))
    members = json.loads(path.read_text())
    assert len(members) == 12
    assert len({member["device"] for member in members}) == 12
    assert members[0] == {
        "name": "Elephant 01",
        "species": "elephant",
        "device": f"eui:{eui_for('Elephant 01')}",
        "fix_interval_s": 600,
    }
    assert {f"eui:{each.eui}" for each in sent_by(herd(animals=12), hours=1)} == {
        member["device"] for member in members
    }
