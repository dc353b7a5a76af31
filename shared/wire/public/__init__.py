"""The public names and shapes of the API, and the one mapping between them and ours.

The names are those of the original platform: ``timestamp``, ``lat``, ``speed_kmh``, ``animal``. Inside, names carry
units (``recorded_at``, ``lat_deg``, ``speed_mps``, ``animal_id``). Nothing else translates.

==================== ====================== ===================================================================
public               ours                   note
==================== ====================== ===================================================================
animal               animal_id              ``animal_id`` is read too
timestamp            recorded_at            read as RFC 3339 with a zone, or ms since 1970; written as RFC 3339
lat, lon             lat_deg, lon_deg       WGS 84
altitude             alt_m                  metres
speed_kmh            speed_mps              negative means unknown, as phones report it
directional_angle    heading_deg            ``heading`` is read too; negative means unknown
battery_level        battery_pct or _mv     text, ``75%``; ``3.65 V`` where a collar reports only its voltage
signal_strength      rssi_dbm               dBm; ``-85 dBm`` is read too
temperature          temperature_c          degrees Celsius
gender               gender                 ``M`` and ``F`` are read too
latitude, longitude  lat_deg, lon_deg       of alerts
conflict_zone        zone_id                of alerts
metadata             is_late                of alerts; an object that is empty unless there is something to say
geometry             geometry               a GeoJSON object; text inside
path                 geometry               of corridors: [lat, lon] along one line; {lat, lon} is read too
start_point          start_lon_deg, _lat_   of corridors: {lat, lon}; end_point likewise
buffer_distance_km   buffer_m               kilometres
==================== ====================== ===================================================================

Responses carry, beside the original's fields, ``rev`` on what can be edited, and on a position ``flags``,
``is_usable``, ``received_at``, ``hdop`` and ``sats``.
"""

from __future__ import annotations

from shared.wire.public.alerts import (
    AcknowledgeIn,
    AlertIn,
    AlertMetadata,
    AlertOut,
    AlertStats,
    NoteIn,
    ResolveIn,
    added_note,
)
from shared.wire.public.animals import AnimalIn, AnimalOut, AnimalPatch
from shared.wire.public.collars import CollarIn, CollarOut, CollarPatch, DeploymentIn, DeploymentOut, DeploymentPatch
from shared.wire.public.corridors import (
    CorridorCollection,
    CorridorCollectionIn,
    CorridorFeature,
    CorridorFeatureIn,
    CorridorIn,
    CorridorOut,
    CorridorPatch,
    Point,
    Route,
    corridor_columns,
)
from shared.wire.public.features import Upload, upload_of
from shared.wire.public.fields import ANIMAL_DEVICE, collar_id
from shared.wire.public.observations import ObservationIn, ObservationOut, ObservationPatch
from shared.wire.public.tracking import (
    KMH_PER_MPS,
    BulkOut,
    BulkResult,
    BulkTrackingIn,
    TrackingIn,
    TrackingOut,
    battery_level,
    flag_names,
    speed_kmh,
)
from shared.wire.public.zones import (
    Area,
    FeatureCollectionIn,
    FeatureIn,
    ZoneCollection,
    ZoneFeature,
    ZoneIn,
    ZoneOut,
    ZonePatch,
    zone_columns,
)

__all__ = [
    "ANIMAL_DEVICE",
    "KMH_PER_MPS",
    "AcknowledgeIn",
    "AlertIn",
    "AlertMetadata",
    "AlertOut",
    "AlertStats",
    "AnimalIn",
    "AnimalOut",
    "AnimalPatch",
    "Area",
    "BulkOut",
    "BulkResult",
    "BulkTrackingIn",
    "CollarIn",
    "CollarOut",
    "CollarPatch",
    "CorridorCollection",
    "CorridorCollectionIn",
    "CorridorFeature",
    "CorridorFeatureIn",
    "CorridorIn",
    "CorridorOut",
    "CorridorPatch",
    "DeploymentIn",
    "DeploymentOut",
    "DeploymentPatch",
    "FeatureCollectionIn",
    "FeatureIn",
    "NoteIn",
    "ObservationIn",
    "ObservationOut",
    "ObservationPatch",
    "Point",
    "ResolveIn",
    "Route",
    "TrackingIn",
    "TrackingOut",
    "Upload",
    "ZoneCollection",
    "ZoneFeature",
    "ZoneIn",
    "ZoneOut",
    "ZonePatch",
    "added_note",
    "battery_level",
    "collar_id",
    "corridor_columns",
    "flag_names",
    "speed_kmh",
    "upload_of",
    "zone_columns",
]
