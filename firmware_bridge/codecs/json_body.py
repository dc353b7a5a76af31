"""JSON bodies from the wire: whatever is wrong with one becomes a FrameError with the reason."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from shared.errors import FrameError

T = TypeVar("T")


def decode_json(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """Return what ``decoder`` makes of ``payload``; raises FrameError."""
    try:
        # The decoder looks at the text only where it keeps it; a body that is not UTF-8 is damaged wherever that shows.
        payload.decode()
        return decoder.decode(payload)
    except UnicodeDecodeError as error:
        raise FrameError(f"the body is not UTF-8: byte {error.start}") from error
    except msgspec.DecodeError as error:
        raise FrameError(str(error)) from error
    except RecursionError as error:
        raise FrameError("the body is nested too deeply") from error
