"""How a codec module says what it takes.

A module of this package that holds ``ROUTES`` is a codec module; ``registry`` finds it by that name. Adding a format is
adding one such file.
"""

from __future__ import annotations

import msgspec

from firmware_bridge.frames import Codec, Framing


class Route(msgspec.Struct, frozen=True):
    """Frames of ``framing``, for ``mqtt`` those whose topic matches ``topic``, go to ``codec``.

    ``topic`` is an MQTT filter in which ``+`` stands for one level. A route without framing only names a format that
    travels inside another one.
    """

    codec: Codec
    framing: Framing | None = None
    topic: str = ""
