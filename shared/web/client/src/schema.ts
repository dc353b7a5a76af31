// The tables of a phone, schema 1. Numbers are milliseconds, degrees, metres, km/h, percent.
//
// `rev` is the home's and never written by an app. `base_rev` is written by an app at the first edit of a row (`edited`
// in sync.ts does it): it tells the home what the user had before him. `author` stays on the phone: whose unsent row it
// is, so that another user of the same phone does not push it in his own name (authors.ts); the home's echo empties it.
import { appSchema, tableSchema } from "@nozbe/watermelondb";

type Column = {
  name: string;
  type: "string" | "number" | "boolean";
  isOptional?: boolean;
  isIndexed?: boolean;
};

const text = (name: string): Column => ({ name, type: "string" });
const number = (name: string): Column => ({ name, type: "number" });
const optional = (column: Column): Column => ({ ...column, isOptional: true });
const indexed = (column: Column): Column => ({ ...column, isIndexed: true });

const kept: Column[] = [
  optional(text("author")),
  optional(number("base_rev")),
  optional(number("rev")),
  number("created_at"),
  number("updated_at"),
];
const readOnly = kept.filter((column) => !["author", "base_rev"].includes(column.name));
const place: Column[] = [optional(number("lat")), optional(number("lon"))];

export const COLUMNS: Record<string, Column[]> = {
  animals: [
    text("name"), text("species"), indexed(text("collar_id")), text("status"), text("health_status"), text("gender"),
    optional(number("age")), optional(number("weight")), optional(text("notes")), ...kept,
  ],
  tracking: [
    indexed(text("animal_id")), indexed(text("collar_id")), indexed(number("timestamp")), number("lat"), number("lon"),
    optional(number("altitude")), optional(number("speed_kmh")), optional(number("heading")),
    optional(number("battery_level")), text("source"), optional(text("author")), ...readOnly,
  ],
  observations: [
    indexed(text("animal_id")), text("observation_type"), text("description"), ...place, number("timestamp"),
    optional(text("photo_url")), ...kept,
  ],
  alerts: [
    optional(text("animal_id")), text("alert_type"), text("severity"), indexed(text("status")), text("title"),
    text("message"), ...place, number("detected_at"), optional(text("note")), ...kept,
  ],
  zones: [
    text("name"), optional(text("species")), text("status"), text("geometry"), optional(text("risk_level")), ...readOnly,
  ],
  corridors: [
    text("name"), optional(text("species")), text("status"), optional(text("geometry")), optional(text("risk_level")),
    ...readOnly,
  ],
  patrols: [
    number("started_at"), optional(number("ended_at")), text("note"), optional(text("track")), ...kept,
  ],
};

/** Tables whose rows note, until they are sent, who wrote them. */
export const OWNED: ReadonlySet<string> = new Set(
  Object.entries(COLUMNS).filter(([, columns]) => columns.some((column) => column.name === "author")).map(([name]) => name),
);

/** Tables that a phone only reads. */
export const READ_ONLY: ReadonlySet<string> = new Set(["zones", "corridors"]);

export const schema = appSchema({
  version: 1,
  tables: Object.entries(COLUMNS).map(([name, columns]) => tableSchema({ name, columns })),
});
