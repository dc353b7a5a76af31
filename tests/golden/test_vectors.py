"""Bytes beside what they mean, taken from the layouts of devices and standards, never from the code under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firmware_bridge.codecs.explain import explain, formats
from firmware_bridge.codecs.registry import decode_frame
from firmware_bridge.frames import Frame
from firmware_bridge.framing.registry import decoder_for
from shared.errors import FrameError
from tests import real_data

HERE = Path(__file__).parent
CONSTRUCTED: list[dict[str, Any]] = json.loads((HERE / "vectors_constructed.json").read_text())
_INPUTS = {"hex", "text", "json", "id", "port"}
#: Their vectors are in the unit tests, beside what makes them.
WITHOUT_VECTOR = {"cobs", "crc16", "outpost_json", "outpost_station_frame"}

#: What a vector says of the set of vectors, or of how it travels, is checked by hand below.
_NOT_FACTS = frozenset({"duplicate_of", "inner", "topic", "store_as"})


def reference_vectors() -> list[dict[str, Any]] | None:
    """Return the full set of vectors, which is not ours to publish; None where it is not at hand."""
    path = real_data.reference("vectors.json")
    if path is None:
        return None
    vectors: list[dict[str, Any]] = json.loads(path.read_text())
    return vectors


REFERENCE = reference_vectors()


def data_of(vector: dict[str, Any]) -> Any:
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector.get("text", vector.get("json"))


def assert_holds(expected: Any, found: Any, where: str) -> None:
    """Check that ``found`` has everything of ``expected``; objects may hold more, lists may not."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        for name, value in expected.items():
            assert name in found, f"{where}.{name} is absent"
            assert_holds(value, found[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert isinstance(found, list), where
        assert len(expected) == len(found), where
        for i, (value, other) in enumerate(zip(expected, found, strict=True)):
            assert_holds(value, other, f"{where}[{i}]")
    else:
        assert expected == found, where


@pytest.mark.parametrize("vector", CONSTRUCTED, ids=lambda vector: vector["id"])
def test_a_constructed_vector_means_what_its_layout_says(vector: dict[str, Any]) -> None:
    def facts() -> dict[str, object]:
        return explain(vector["format"], data=data_of(vector), port=vector.get("port"))

    if "error" in vector:
        with pytest.raises(FrameError, match=vector["error"]):
            facts()
        return
    expected = {name: value for name, value in vector.items() if name not in _INPUTS}
    assert_holds(expected, facts(), vector["id"])


@pytest.mark.parametrize("name", ["nmea", "mixed"])
def test_constructed_sentences_come_through_the_framing(name: str) -> None:
    rmc, gga = (next(v["text"] for v in CONSTRUCTED if v["id"] == key) for key in ("nmea rmc", "nmea gga"))
    joined = next(v for v in CONSTRUCTED if v["id"] == "nmea rmc and gga")
    decoder = decoder_for(name)
    decoder.feed(f"{rmc}\r\n{gga}\r\n".encode())
    assert decoder.flush() == [Frame("nmea", joined["text"].encode())]


@pytest.mark.parametrize("name", ["ubx", "mixed"])
def test_constructed_messages_come_through_the_framing(name: str) -> None:
    messages = [data_of(vector) for vector in CONSTRUCTED if vector["format"] == "ubx_nav_pvt"]
    assert decoder_for(name).feed(b"".join(messages)) == [Frame("ubx", message) for message in messages]


@pytest.mark.skipif(
    REFERENCE is None,
    reason="the reference vectors are absent: set OUTPOST_REAL_DATA to the folder of tracks beside reference/",
)
@pytest.mark.parametrize("vector", REFERENCE or [{"id": "none"}], ids=lambda vector: vector["id"])
def test_every_reference_vector_means_what_it_expects(vector: dict[str, Any]) -> None:
    expected: dict[str, Any] = vector["expect"]
    data = bytes.fromhex(vector["value"]) if vector["kind"] == "hex" else vector["value"]
    if "error" in expected:
        with pytest.raises(FrameError, match=expected["error"]):
            explain(vector["fmt"], data=data, port=vector.get("fPort"))
        return
    facts: dict[str, Any] = explain(vector["fmt"], data=data, port=vector.get("fPort"))
    plain = {name: value for name, value in expected.items() if name not in _NOT_FACTS}
    assert_holds(plain, facts["details"], vector["id"])
    if "store_as" in expected:
        assert [fix["store_as"] for fix in facts["fixes"]] == [expected["store_as"]]
    if "duplicate_of" in expected:
        assert place_and_time(facts) == place_and_time(reference_facts(expected["duplicate_of"]))
    if str(expected.get("inner")).startswith("opencollar buffer"):
        assert facts["details"]["inner"] == "opencollar buffer"
        assert set(place_and_time(facts)) == set(place_and_time(reference_facts("oc.short")))
    elif "inner" in expected:
        inner = reference_facts(expected["inner"])
        assert facts["fixes"] == inner["fixes"]
        assert_holds(inner["details"], facts["details"], vector["id"])
    if "topic" in expected:
        (uplink,) = decode_frame(Frame("mqtt", json.dumps(data).encode(), expected["topic"]))
        assert uplink.device == facts["device"]
        assert [fix.lat_deg for fix in uplink.fixes] == [fix["lat_deg"] for fix in facts["fixes"]]


def reference_facts(vector_id: str) -> dict[str, Any]:
    (vector,) = [vector for vector in REFERENCE or [] if vector["id"] == vector_id]
    facts: dict[str, Any] = explain(vector["fmt"], data=bytes.fromhex(vector["value"]), port=vector["fPort"])
    return facts


def place_and_time(facts: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(fix["recorded_at"], fix["lon_deg"], fix["lat_deg"]) for fix in facts["fixes"]]


@pytest.mark.skipif(REFERENCE is None, reason="the reference vectors are absent")
def test_every_reference_format_can_be_told() -> None:
    assert {vector["fmt"] for vector in REFERENCE or []} <= set(formats())


def test_every_format_has_a_constructed_vector() -> None:
    assert set(formats()) - {vector["format"] for vector in CONSTRUCTED} == WITHOUT_VECTOR
