"""Which payload a LoRaWAN device sends: the network server knows the device, not its bytes.

An 11-byte payload on port 1 may be an Oyster's position or a Cayenne LPP one, and reading the one as the other gives an
animal a place where it is not. So nothing is guessed from lengths: the format is named, by its name here, in a tag or
the profile of the device, and is OpenCollar Edge where nothing names one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from firmware_bridge.codecs.cayenne_lpp import read_lpp
from firmware_bridge.codecs.digital_matter import read_oyster
from firmware_bridge.codecs.messages import Message
from firmware_bridge.codecs.opencollar import read_messages
from firmware_bridge.codecs.opencollar_buffer import read_buffer
from firmware_bridge.codecs.opencollar_gen1 import read_gen1
from shared.errors import FrameError

OPENCOLLAR = "opencollar"

READERS: Mapping[str, Callable[[bytes, int | None], list[Message]]] = MappingProxyType(
    {
        OPENCOLLAR: read_messages,
        "opencollar_gen1": read_gen1,
        "opencollar_buffer": lambda payload, _: read_buffer(payload),
        "cayenne_lpp": read_lpp,
        "digital_matter_oyster": read_oyster,
    }
)


def payload_format(tag: object, names: Iterable[str]) -> str:
    """Return the format that ``tag`` names, else the first of ``names`` that is one, else OpenCollar.

    A tag is there to name a format, so one that names none raises FrameError. Names (of profiles, applications) have
    their own life. Case, blanks and hyphens do not matter.
    """
    if tag:
        if not isinstance(tag, str) or (plain := _plain(tag)) not in READERS:
            raise FrameError(f"the device's tag names the payload {tag!r}: choose one of {', '.join(READERS)}")
        return plain
    return next((plain for name in names if (plain := _plain(name)) in READERS), OPENCOLLAR)


def read_payload(payload: bytes, port: int | None, format_name: str) -> list[Message]:
    """Return the messages of a device's payload; raises FrameError with the reason."""
    return READERS[format_name](payload, port)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
