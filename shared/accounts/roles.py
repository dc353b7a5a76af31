"""The one table: which role may do what, on every route of both homes.

A route that is not here is for administrators alone, so that what is added elsewhere is closed until it is entered; the
tests walk the table against the routes of both homes, each role at each. What a role sees of a row is
``shared.privacy``'s; ``own`` says that rangers change only what is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from shared.privacy import Role

Home = Literal["station", "cloud"]
#: ``token``: one of ``roles``. ``open``: nobody is asked. ``local``: open on the machine itself, else like ``token``.
#: ``signed``: a station's signature, which the route checks itself.
Access = Literal["token", "open", "local", "signed"]

ADMIN: Final[frozenset[Role]] = frozenset({"admin"})
MANAGERS: Final[frozenset[Role]] = ADMIN | {"conservation_manager"}
FIELD: Final[frozenset[Role]] = MANAGERS | {"ranger"}
ALL: Final[frozenset[Role]] = FIELD | {"viewer"}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use a route. ``needs_factor``: only with a second factor of the last five minutes.

    ``ranger_at``: rangers only at this home. ``is_own``: rangers only on rows of their own. ``is_exact``: answers hold
    exact positions, so each is written to the audit log. ``scope`` is what an API key must have; None: no key may.
    """

    roles: frozenset[Role] = ADMIN
    access: Access = "token"
    needs_factor: bool = False
    ranger_at: Home | None = None
    is_own: bool = False
    is_exact: bool = False
    scope: str | None = None

    def allows(self, role: Role, home: Home) -> bool:
        """Say whether ``role`` may use the route at ``home``, a fresh factor and its own rows aside."""
        if self.access in ("open", "signed"):
            return True
        if role == "ranger" and self.ranger_at is not None and self.ranger_at != home:
            return False
        return role in self.roles


#: For a route that the table does not name.
CLOSED: Final = Rule()
_OPEN: Final = Rule(access="open", roles=ALL)
_LOCAL: Final = Rule(access="local", roles=ALL)
_SIGNED: Final = Rule(access="signed", roles=frozenset())
_SELF: Final = Rule(roles=ALL)


def _read(area: str, *, is_exact: bool = False) -> Rule:
    return Rule(roles=ALL, is_exact=is_exact, scope=f"{area}:read")


def _write(area: str, roles: frozenset[Role], *, ranger_at: Home | None = None, is_own: bool = False) -> Rule:
    return Rule(roles=roles, ranger_at=ranger_at, is_own=is_own, scope=f"{area}:write")


def _factor(roles: frozenset[Role]) -> Rule:
    return Rule(roles=roles, needs_factor=True)


def _crud(path: str, key: str, area: str, write: Rule, remove: Rule) -> dict[str, Rule]:
    one = f"{path}/{{{key}}}"
    return {
        f"GET {path}": _read(area), f"POST {path}": write, f"GET {one}": _read(area), f"PUT {one}": write,
        f"PATCH {one}": write, f"DELETE {one}": remove,
    }  # fmt: skip


_V1: Final = "/api/v1"
_AUTH: Final = f"{_V1}/auth"
_TRACKING: Final = f"{_V1}/tracking"
_OBSERVATIONS: Final = f"{_TRACKING}/observations"
_ALERTS: Final = f"{_V1}/alerts"
_JOBS: Final = f"{_V1}/jobs"
_PREDICTIONS: Final = f"{_V1}/predictions"
_MODELS: Final = f"{_V1}/models"
_STATION: Final = f"{_V1}/stations/{{station_id}}"
_RANGERS: Final = f"{_V1}/rangers"
_FIELD_READ: Final = Rule(roles=FIELD, is_exact=True, scope="rangers:read")


def _patrols(name: str, key: str, write: Rule, change: Rule) -> dict[str, Rule]:
    one = f"{_RANGERS}/{name}/{{{key}}}"
    return {
        f"GET {_RANGERS}/{name}": _FIELD_READ, f"POST {_RANGERS}/{name}": write, f"GET {one}": _FIELD_READ,
        f"PUT {one}": write, f"PATCH {one}": change, f"DELETE {one}": _write("rangers", MANAGERS),
    }  # fmt: skip


RULES: Final[Mapping[str, Rule]] = {
    # --- what needs no account
    "GET /": _OPEN,
    "GET /trust": _OPEN,
    "GET /trust/station.crt": _OPEN,
    "GET /app/icon.svg": _OPEN,
    "GET /app/{name}": _OPEN,
    "POST /session": _OPEN,
    "POST /session/code": _OPEN,
    "POST /session/register": _OPEN,
    "POST /session/register/code": _OPEN,
    "POST /session/end": _OPEN,
    "GET /health": _OPEN,
    "GET /health/live": _OPEN,
    "GET /health/ready": _OPEN,
    "GET /health/detail": Rule(access="local", roles=FIELD),
    "PUT /health/clock": Rule(roles=ADMIN),
    "GET /metrics": Rule(access="local", roles=MANAGERS, scope="metrics:read"),
    "GET /api/docs": _LOCAL,
    "GET /api/redoc": _LOCAL,
    "GET /api/assets/start-swagger.js": _LOCAL,
    "GET /api/assets/{name}": _LOCAL,
    "GET /api/schema/openapi.json": _LOCAL,
    "GET /api/schema/openapi.json/openapi.json": _LOCAL,
    "GET /api/schema/openapi.json/{path}": _LOCAL,
    # --- pages
    "GET /basemap/{name}": Rule(roles=ALL),
    # --- accounts
    **{
        f"POST {_AUTH}/{name}": _OPEN
        for name in ("register", "verify-otp", "login", "login/verify", "send-otp", "refresh")
    },
    **{f"POST {_AUTH}/{name}": _SELF for name in ("logout", "change-password", "factor", "totp/confirm")},
    # who sets up another second factor shows the former one first; the first is set up with the password
    f"POST {_AUTH}/totp": _SELF,
    f"GET {_AUTH}/me": _SELF,
    f"PUT {_AUTH}/me": _SELF,
    f"PATCH {_AUTH}/me": _SELF,
    f"GET {_V1}/users": Rule(roles=MANAGERS),
    f"POST {_V1}/users": _factor(MANAGERS),
    f"GET {_V1}/users/{{user_id}}": Rule(roles=MANAGERS),
    f"PATCH {_V1}/users/{{user_id}}": _factor(ADMIN),
    f"POST {_V1}/users/{{user_id}}/revoke": _factor(ADMIN),
    f"POST {_V1}/users/{{user_id}}/restore": _factor(ADMIN),
    f"GET {_V1}/api-keys": Rule(roles=ADMIN),
    f"POST {_V1}/api-keys": _factor(ADMIN),
    f"POST {_V1}/api-keys/{{key_id}}/rotate": _factor(ADMIN),
    f"DELETE {_V1}/api-keys/{{key_id}}": _factor(ADMIN),
    f"GET {_V1}/audit": Rule(roles=ADMIN),
    f"GET {_V1}/logs/levels": Rule(roles=ADMIN),
    f"PUT {_V1}/logs/levels": Rule(roles=ADMIN),
    # --- animals, collars, deployments
    **_crud(
        f"{_V1}/animals", "animal_id", "animals", _write("animals", FIELD, ranger_at="station"), _factor(MANAGERS)
    ),
    f"GET {_V1}/animals/live_status": _read("animals", is_exact=True),
    "GET /api/animals/live_status": _read("animals", is_exact=True),
    f"GET {_V1}/animals/trails": _read("animals", is_exact=True),
    f"GET {_V1}/animals/{{animal_id}}/movement_trail": _read("animals", is_exact=True),
    f"GET {_V1}/animals/{{animal_id}}/utilisation": _read("animals", is_exact=True),
    f"GET {_V1}/animals/{{animal_id}}/utilisation/{{z}}/{{x}}/{{tile}}": _read("animals", is_exact=True),
    f"GET {_V1}/animals/{{animal_id}}/results": _read("animals", is_exact=True),
    **_crud(
        f"{_V1}/collars", "collar", "collars", _write("collars", FIELD, ranger_at="station"),
        _write("collars", MANAGERS),
    ),
    **_crud(
        f"{_V1}/deployments", "deployment_id", "deployments", _write("deployments", FIELD, ranger_at="station"),
        _write("deployments", MANAGERS),
    ),
    # --- positions
    f"GET {_TRACKING}": _read("tracking", is_exact=True),
    f"POST {_TRACKING}": _write("tracking", FIELD),
    f"POST {_TRACKING}/bulk_upload": _write("tracking", FIELD),
    f"GET {_TRACKING}/by_animal": _read("tracking", is_exact=True),
    f"GET {_TRACKING}/live": _read("tracking", is_exact=True),
    f"GET {_TRACKING}/live_tracking": _read("tracking", is_exact=True),
    f"GET {_TRACKING}/behavior/analyze": _read("tracking", is_exact=True),
    f"GET {_TRACKING}/behavior/summary": _read("tracking"),
    f"GET {_TRACKING}/{{fix_id}}": _read("tracking", is_exact=True),
    f"POST {_TRACKING}/{{fix_id}}/exclude": _write("tracking", FIELD),
    f"POST {_TRACKING}/{{fix_id}}/reinstate": _write("tracking", MANAGERS),
    f"GET {_V1}/tiles/fixes/{{z}}/{{x}}/{{tile}}": _read("tracking", is_exact=True),
    f"GET {_V1}/events": _read("events", is_exact=True),
    f"GET {_V1}/undecoded": Rule(roles=FIELD, scope="links:read"),
    # --- what people report
    **_crud(
        _OBSERVATIONS, "observation_id", "observations", _write("observations", FIELD, is_own=True),
        _write("observations", FIELD, is_own=True),
    ),
    # --- zones, alerts
    **_crud(f"{_V1}/conflict-zones", "zone_id", "zones", _write("zones", MANAGERS), _factor(MANAGERS)),
    f"GET {_V1}/conflict-zones/geojson": _read("zones"),
    **_crud(f"{_V1}/corridors", "corridor_id", "corridors", _write("corridors", MANAGERS), _factor(MANAGERS)),
    f"GET {_V1}/corridors/geojson": _read("corridors"),
    f"POST {_V1}/corridors/optimize": Rule(roles=MANAGERS),
    f"POST {_V1}/corridors/{{corridor_id}}/publish": _factor(MANAGERS),
    f"GET {_ALERTS}/rules": _read("alerts"),
    f"PUT {_ALERTS}/rules/{{rule}}/mute": _write("alerts", MANAGERS),
    f"DELETE {_ALERTS}/rules/{{rule}}/mute": _write("alerts", MANAGERS),
    f"GET {_ALERTS}": _read("alerts", is_exact=True),
    f"POST {_ALERTS}": _write("alerts", MANAGERS),
    f"GET {_ALERTS}/active": _read("alerts", is_exact=True),
    f"GET {_ALERTS}/critical": _read("alerts", is_exact=True),
    f"GET {_ALERTS}/stats": _read("alerts"),
    f"GET {_ALERTS}/{{alert_id}}": _read("alerts", is_exact=True),
    f"POST {_ALERTS}/{{alert_id}}/acknowledge": _write("alerts", FIELD),
    f"POST {_ALERTS}/{{alert_id}}/note": _write("alerts", FIELD),
    f"POST {_ALERTS}/{{alert_id}}/resolve": _write("alerts", FIELD),
    f"POST {_ALERTS}/{{alert_id}}/false_alarm": _write("alerts", MANAGERS),
    # --- charts: of distances and behaviour a reduced view is told nothing
    f"GET {_V1}/charts/movement": _read("animals"),
    f"GET {_V1}/charts/behaviour": _read("animals"),
    f"GET {_V1}/charts/battery": _read("animals"),
    f"GET {_V1}/charts/traffic": Rule(roles=FIELD, ranger_at="station"),
    # --- phones
    # whose code it is, the route itself asks: one's own, or of people whose role one may give
    f"POST {_V1}/phones/codes": _factor(ALL),
    f"POST {_V1}/phones/enrol": _OPEN,
    f"POST {_V1}/phones/{{phone_id}}/login": _OPEN,
    f"GET {_V1}/phones": _SELF,
    f"POST {_V1}/phones/{{phone_id}}/revoke": _factor(ALL),
    f"GET {_V1}/sync/pull": _read("sync", is_exact=True),
    f"POST {_V1}/sync/push": _write("sync", FIELD),
    f"POST {_V1}/sync/upload": _write("sync", FIELD),
    # --- rangers and their patrols: viewers may know how many are on duty, and nothing else
    **_patrols("teams", "team_id", _write("rangers", MANAGERS), _write("rangers", MANAGERS)),
    **_patrols("rangers", "ranger_id", _write("rangers", MANAGERS), _write("rangers", FIELD, is_own=True)),
    f"GET {_RANGERS}/live_status": _FIELD_READ,
    f"GET {_RANGERS}/rangers/live_status": _FIELD_READ,
    f"GET {_RANGERS}/stats": _read("rangers"),
    f"GET {_RANGERS}/tracking": _FIELD_READ,
    f"POST {_RANGERS}/tracking": _write("rangers", FIELD, is_own=True),
    f"POST {_RANGERS}/tracking/bulk_upload": _write("rangers", FIELD, is_own=True),
    f"GET {_RANGERS}/tracking/{{position_id}}": _FIELD_READ,
    **_patrols("logs", "log_id", _write("rangers", FIELD, is_own=True), _write("rangers", FIELD, is_own=True)),
    f"GET {_RANGERS}/logs/emergencies": _FIELD_READ,
    f"POST {_RANGERS}/logs/{{log_id}}/resolve": _write("rangers", FIELD),
    **_patrols("routes", "route_id", _write("rangers", MANAGERS), _write("rangers", MANAGERS)),
    f"POST {_RANGERS}/routes/{{route_id}}/start_patrol": _write("rangers", FIELD),
    f"POST {_RANGERS}/routes/{{route_id}}/end_patrol": _write("rangers", FIELD),
    # --- long work: everybody's own, an administrator's everybody's
    f"GET {_JOBS}": _SELF,
    f"GET {_JOBS}/{{job_id}}": _SELF,
    f"DELETE {_JOBS}/{{job_id}}": _SELF,
    f"GET {_JOBS}/{{job_id}}/events": _SELF,
    # a fresh factor is asked for by the route itself, of who sees exactly; rangers' own patrols are no fixes of animals
    f"POST {_V1}/exports": Rule(roles=MANAGERS | {"viewer"}),
    f"GET {_V1}/exports/{{job_id}}/file": Rule(roles=MANAGERS | {"viewer"}),
    # what a report may be about is decided by what the asker sees
    f"POST {_V1}/reports": Rule(roles=MANAGERS | {"viewer"}),
    f"GET {_V1}/reports/{{job_id}}/file": Rule(roles=MANAGERS | {"viewer"}),
    # --- other systems that fixes are sent to: who adds one gives exact positions away
    f"GET {_V1}/destinations": Rule(roles=ADMIN),
    f"POST {_V1}/destinations": _factor(ADMIN),
    f"GET {_V1}/destinations/{{destination_id}}": Rule(roles=ADMIN),
    f"PATCH {_V1}/destinations/{{destination_id}}": _factor(ADMIN),
    f"DELETE {_V1}/destinations/{{destination_id}}": _factor(ADMIN),
    f"POST {_V1}/destinations/{{destination_id}}/send": Rule(roles=ADMIN),
    # --- what was synchronised: rangers see their own
    f"GET {_V1}/sync/logs": Rule(roles=FIELD),
    f"GET {_V1}/sync/logs/recent": Rule(roles=FIELD),
    f"GET {_V1}/sync/logs/stats": Rule(roles=FIELD),
    f"GET {_V1}/sync/queue/pending": Rule(roles=FIELD, is_exact=True),
    f"GET {_V1}/sync/queue/failed": Rule(roles=FIELD, is_exact=True),
    f"POST {_V1}/sync/queue/retry_failed": Rule(roles=FIELD),
    f"POST {_V1}/sync/queue/{{item_id}}/retry_item": Rule(roles=FIELD, is_exact=True),
    f"GET {_V1}/conflicts": Rule(roles=FIELD, is_exact=True),
    f"GET {_V1}/conflicts/{{conflict_id}}": Rule(roles=FIELD, is_exact=True),
    f"POST {_V1}/conflicts/{{conflict_id}}/resolve": Rule(roles=MANAGERS),
    # --- files: a photograph may tell where it was taken
    f"GET {_V1}/blobs/{{sha256}}": Rule(roles=FIELD, is_exact=True, scope="observations:read"),
    f"GET {_V1}/blobs/{{sha256}}/thumbnail": Rule(roles=FIELD, scope="observations:read"),
    f"PUT {_V1}/blobs/{{sha256}}": _write("observations", FIELD),
    # --- what models say when they are asked; a map of few animals is a map of where they go, so viewers have none
    f"GET {_PREDICTIONS}": _read("predictions", is_exact=True),
    f"POST {_PREDICTIONS}": _write("predictions", FIELD),
    f"GET {_PREDICTIONS}/history": _read("predictions", is_exact=True),
    f"GET {_PREDICTIONS}/corridor": _read("predictions"),
    f"POST {_PREDICTIONS}/corridor": _write("predictions", FIELD),
    f"GET {_PREDICTIONS}/ml_status": _read("predictions"),
    f"GET {_PREDICTIONS}/xgboost/environment": Rule(roles=FIELD, scope="predictions:read"),
    f"POST {_PREDICTIONS}/xgboost/predict": _write("predictions", FIELD),
    f"GET {_PREDICTIONS}/{{prediction_id}}": _read("predictions", is_exact=True),
    f"DELETE {_PREDICTIONS}/{{prediction_id}}": _write("predictions", FIELD, is_own=True),
    f"GET {_V1}/habitat/{{species}}/{{z}}/{{x}}/{{tile}}": Rule(roles=FIELD, scope="predictions:read"),
    f"GET {_V1}/ml/health": _OPEN,
    f"GET {_V1}/ml/health/live": _OPEN,
    f"GET {_V1}/ml/health/ready": _OPEN,
    f"POST {_V1}/ml/corridor/generate": _write("predictions", FIELD),
    f"POST {_V1}/ml/corridor/evaluate": _write("predictions", FIELD),
    # --- models
    f"GET {_MODELS}": Rule(roles=MANAGERS),
    f"POST {_MODELS}": _factor(ADMIN),
    f"POST {_MODELS}/activate": _factor(ADMIN),
    f"POST {_MODELS}/roll_back": _factor(ADMIN),
    # --- what stations say to the cloud
    f"GET {_V1}/stations": Rule(roles=MANAGERS),
    f"POST {_V1}/stations": _factor(ADMIN),
    f"POST {_STATION}/retire": _factor(ADMIN),
    f"GET {_STATION}/scope": Rule(roles=ADMIN),
    f"GET {_STATION}/frames": Rule(roles=ADMIN, needs_factor=True, is_exact=True),
    f"PUT {_STATION}/scope": _factor(ADMIN),
    f"GET {_STATION}/audit": Rule(roles=ADMIN),
    f"PUT {_STATION}/audit/lines": _SIGNED,
    f"POST {_V1}/stations/enrol": _OPEN,
    f"GET {_STATION}/roster": _SIGNED,
    f"PUT {_STATION}/roster": _SIGNED,
    f"PUT {_STATION}/streams/{{epoch}}/{{channel}}/batches/{{n}}": _SIGNED,
    f"GET {_STATION}/streams/{{epoch}}": _SIGNED,
    f"GET {_STATION}/changes": _SIGNED,
    f"GET {_STATION}/blobs/{{sha256}}": _SIGNED,
    f"PUT {_STATION}/blobs/{{sha256}}": _SIGNED,
    f"GET {_STATION}/conflicts": _SIGNED,
    f"GET {_STATION}/heard": _SIGNED,
    f"GET {_STATION}/heard/newest": _SIGNED,
    f"GET {_STATION}/fixes": _SIGNED,
    f"GET {_STATION}/models": _SIGNED,
    f"GET {_STATION}/release": _SIGNED,
    f"GET {_STATION}/release/{{sha256}}": _SIGNED,
    f"GET {_STATION}/models/{{sha256}}": _SIGNED,
    # --- what services on the internet deliver: the key is in the path
    f"POST {_V1}/ingest/rockblock/{{key}}": _OPEN,
}  # fmt: skip

#: What of a row some roles see and others do not, whose row it is aside.
FIELDS: Final[Mapping[str, frozenset[Role]]] = {
    # what a camera wrote beside a picture: where it stood, when, which one it is
    "photo.place": MANAGERS,
}

#: Everything that an API key may be given.
SCOPES: Final[frozenset[str]] = frozenset(rule.scope for rule in RULES.values() if rule.scope is not None)


def rule_of(method: str, path: str, rules: Mapping[str, Rule] = RULES) -> Rule:
    """Return the rule of a route, whose ``path`` has ``{names}`` in the place of its parts."""
    asked = "GET" if method in ("HEAD", "OPTIONS") else method
    return rules.get(f"{asked} {path.rstrip('/') or '/'}", CLOSED)


def shows(field: str, role: Role) -> bool:
    """Say whether ``role`` sees a field of the table; one that is not there is for administrators alone."""
    return role in FIELDS.get(field, ADMIN)


def granted_by(role: Role) -> frozenset[Role]:
    """Return the roles that someone may give: an administrator all, a manager rangers and viewers."""
    if role == "admin":
        return ALL
    return frozenset({"ranger", "viewer"}) if role == "conservation_manager" else frozenset()


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """Return those of ``scopes`` that do not exist."""
    return sorted(set(scopes) - SCOPES)
