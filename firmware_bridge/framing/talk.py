"""What has to be said to a device before it says anything.

Most of what hangs on a cable speaks by itself. A Meshtastic node stays silent until it is asked for its configuration,
and again when it has heard nothing for fifteen minutes. An RN2483 listens for one packet at a time, and gives up when
its watchdog barks. RNode and RAK modems keep what they were told: they are set up once, with their makers' tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from firmware_bridge.framing.meshtastic import encode_mesh_frame

_WAKE = b"\xc3" * 32
#: ToRadio: want_config_id 3 and heartbeat 7.
_WANT_CONFIG = encode_mesh_frame(b"\x18\x01")
_HEARTBEAT = encode_mesh_frame(b"\x3a\x00")
_LISTEN = b"radio rx 0\r\n"


class Talk(msgspec.Struct, frozen=True):
    """What is said when the port is opened, every ``again_s`` from then on, and after each frame."""

    opening: bytes
    again: bytes
    again_s: float
    after_frame: bytes = b""


#: By the name of the framing; a framing that is absent needs no word.
TALKS: Mapping[str, Talk] = MappingProxyType(
    {
        "meshtastic": Talk(opening=_WAKE + _WANT_CONFIG, again=_HEARTBEAT, again_s=300.0),
        "rn2483": Talk(
            opening=b"mac pause\r\nradio set wdt 0\r\n" + _LISTEN, again=_LISTEN, again_s=60.0, after_frame=_LISTEN
        ),
    }
)
