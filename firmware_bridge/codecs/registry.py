"""Which codec reads a frame.

Every module of this package that holds ``ROUTES`` is imported here, once, and its routes are entered. Serial framings
name one codec each; MQTT topics are matched level by level.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from firmware_bridge import codecs
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Codec, Frame, Uplink
from shared.errors import FrameError

#: The modules that stand above the codecs, and so cannot be imported from here.
_ABOVE = frozenset({"explain", "registry"})


def _discovered() -> Iterable[Route]:
    for module in pkgutil.iter_modules(codecs.__path__):
        if module.name not in _ABOVE:
            yield from getattr(importlib.import_module(f"{codecs.__name__}.{module.name}"), "ROUTES", ())


#: Every route of every codec module.
ROUTES = tuple(_discovered())
_BY_FRAMING: Mapping[str, Codec] = {route.framing: route.codec for route in ROUTES if route.framing and not route.topic}
_BY_TOPIC = tuple((route.topic.split("/"), route.codec) for route in ROUTES if route.topic)

#: Every codec by the name of its format.
FORMATS: Mapping[str, Codec] = MappingProxyType({route.codec.format: route.codec for route in ROUTES})


def codec_for(frame: Frame) -> Codec:
    """Return the codec that reads ``frame``; raises FrameError where there is none."""
    codec = _codec_for_topic(frame.topic) if frame.topic else _BY_FRAMING.get(frame.framing)
    if codec is None:
        raise FrameError(f"no codec for {f'topic {frame.topic!r}' if frame.topic else f'framing {frame.framing}'}")
    return codec


def decode_frame(frame: Frame) -> list[Uplink]:
    """Return what ``frame`` says; raises FrameError with the reason."""
    return codec_for(frame).decode(frame.payload, topic=frame.topic)


# A station hears the same few hundred topics all day.
@lru_cache(maxsize=4096)
def _codec_for_topic(topic: str) -> Codec | None:
    levels = topic.split("/")
    for pattern, codec in _BY_TOPIC:
        if len(pattern) == len(levels) and all(
            expected == level or (expected == "+" and level) for expected, level in zip(pattern, levels, strict=True)
        ):
            return codec
    return None
