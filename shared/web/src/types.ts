/** The parts of the API's answers that the pages read. */
export interface Prediction {
  timestamp: string; hours: number; lat: number; lon: number; semi_major_50_m: number; semi_minor_50_m: number;
  semi_major_90_m: number; semi_minor_90_m: number; bearing: number; model: string;
}
export interface Live {
  animal_id: string; name: string; species: string; collar_id: string | null; cell_deg: number | null;
  current_position: { lat: number | null; lon: number | null; altitude: number | null; timestamp: string; received_at: string; area: string | null };
  predictions: Prediction[];
  movement: {
    speed_kmh: number | null; directional_angle: number | null; distance_24h_km: number | null;
    behavior_state: string | null; behavior_confidence: number | null; path_width_m: number | null;
    battery_level: string | null; signal_strength: number | null;
  };
  corridor_status: { inside_corridor: boolean; corridor_name: string | null };
  conflict_risk: { current: { risk_level: string | null; reason: string | null } };
  alerts: { active_count: number; has_critical: boolean; latest_alert: string | null };
  missing: Record<string, string>;
}
export interface Trails {
  since: string; until: string; states: string[]; is_cut: boolean;
  animals: { animal_id: string; at_ms: number[]; lon: number[]; lat: number[]; state: number[] }[];
}
/** A sentence of Outpost's own, by code and values: `told` says it in the page's language. */
export interface Said { code: string; values: Record<string, string> }
export interface Alert {
  id: string; animal: string | null; alert_type: string; severity: "low" | "medium" | "high" | "critical";
  status: "active" | "acknowledged" | "resolved" | "false_alarm"; title: string; message: string;
  title_said: Said | null; message_said: Said | null;
  latitude: number | null; longitude: number | null; detected_at: string; acknowledged_at: string | null;
  acknowledged_by: string | null; note: string | null; metadata: { is_late?: boolean };
}
export interface Collar {
  id: string; model: string | null; fix_interval_s: number | null; notes: string | null; aliases: string[];
  last_heard_at: string | null; battery_level: string | null; firmware: string | null;
}
export interface Animal {
  id: string; name: string; species: string; collar_id: string | null; status: string; gender: string;
  age: number | null; weight: number | null; health_status: string; notes: string | null;
}
export interface Deployment {
  id: string; animal: string; collar_id: string; started_at: string; ended_at: string | null; notes: string | null;
}
export interface Observation {
  id: string; animal: string | null; observation_type: string; description: string; lat: number | null;
  lon: number | null; timestamp: string; photo_url: string | null; observer: string | null; updated_at: string;
  area?: string | null;
}
export interface Geometry { type: string; coordinates: unknown }
export interface Zone {
  id: string; name: string; zone_type: string; risk_level: string; geometry: Geometry; buffer_distance_km: number;
  description: string; is_active: boolean;
}
export interface Corridor {
  id: string; name: string; species: string | null; status: string; geometry: Geometry | null; width_m: number;
  description: string;
}
export interface LinkStatus {
  name: string; kind: string; address: string; is_up: boolean; frames: number; skipped_bytes: number;
  damaged_frames: number; reconnects: number; last_frame_at: string | null; last_error: string;
}
export interface StationHealth {
  status: "ok" | "degraded" | "failing"; reasons: string[]; said: Said[]; version: string; uptime_s: number;
  clock: { now: string; state: string; is_sure: boolean; uncertainty_s: number | null };
  disk: { free_bytes: number; total_bytes: number };
  ledger: { frames: number; pending: number; undecoded: number };
  store: { fixes: number; animals: number; is_encrypted: boolean; check: string | null };
  links: LinkStatus[];
  pipeline: { owed: number; refused: Record<string, string> } | null;
  cloud: {
    is_enabled: boolean; station_id: string | null; url: string | null; last_receipt_at: string | null;
    last_receipt_age_s: number | null; waiting: Record<string, { items: number; oldest_at: string | null }>;
    unsendable: number; held: string[]; last_error: string | null; roster_age_s: number | null;
  } | null;
  backup?: {
    is_enabled: boolean; is_on_the_same_medium: boolean; last_hourly_at: string | null; last_daily_at: string | null;
    last_error: string | null;
  } | null;
}
export interface Undecoded {
  ledger_seq: number; link: string; framing: string; topic: string; reason: string; received_at: string;
  size_bytes: number; head: string;
}
export interface LiveRanger {
  ranger_id: string; name: string; badge_number: string; team_name: string | null; current_status: string; last_active: string | null;
  current_position: { lat: number; lon: number; timestamp: string } | null; activity_type: string | null; age_s: number | null;
  emergencies: { id: string; title: string; priority: string; timestamp: string }[];
}
export interface Station {
  id: string; name: string; enrolled_at: string; last_seen_at: string | null; is_retired: boolean; behind: number;
  follows: string[] | null; has_scope: boolean; doubled_at: string | null;
}
export interface Scope { area: Zone["geometry"] | null; animals: string[] | null }
export interface User {
  id: string; email: string; name: string; role: string; is_active: boolean; last_login: string | null;
  stations: string[]; has_totp: boolean; recovery_codes_left: number;
}
export interface ApiKey {
  id: string; name: string; role: string; scopes: string[]; expires_at: string; is_revoked: boolean; key: string | null;
}
export interface AuditLine { seq: number; at: string; actor: string; action: string; detail: string }
