"""OpenCollar's satellite buffer: the flash log's records in one message of up to 340 bytes.

::

    u8 port | message | u32 stored-at          again and again; the oldest were dropped where there was no room

It is what an OpenCollar with an Iridium modem sends, and reads like the flash log of fPort 29.
"""

from __future__ import annotations

from firmware_bridge.codecs.messages import Message, uplinks_of
from firmware_bridge.codecs.opencollar import PORT_FLASH_LOG, read_messages
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Uplink
from shared.errors import FrameError


class OpenCollarBufferCodec:
    """The codec of a bare buffer, whose device is the link's own."""

    format = "opencollar_buffer"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink with the fixes of all records; raises FrameError with the reason."""
        return uplinks_of(read_buffer(payload), self.format)


ROUTES = (Route(OpenCollarBufferCodec()),)


def read_buffer(payload: bytes) -> list[Message]:
    """Return the records of a buffer in one message; raises FrameError where not one can be read."""
    return read_messages(payload, PORT_FLASH_LOG)


def read_satellite(payload: bytes) -> list[Message]:
    """Return what came over a satellite: a buffer, or a message on its own; raises FrameError with both reasons."""
    try:
        messages, name = read_buffer(payload), "opencollar buffer"
    except FrameError as no_buffer:
        try:
            messages, name = read_messages(payload, None), "opencollar message"
        except FrameError as no_message:
            raise FrameError(
                f"the satellite's payload is neither an OpenCollar buffer ({no_buffer.detail}) nor a message of one"
                f" ({no_message.detail})"
            ) from None
    return [message._replace(details={**message.details, "inner": name}) for message in messages]
