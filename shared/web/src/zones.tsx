/** Areas with a risk: a list, and a map to draw them on, with corners as numbers for who cannot point. */
import { useState } from "preact/hooks";
import { call, post, withFactor } from "./api";
import { isManager } from "./boot";
import { loadAreas } from "./live";
import { Canvas, Corners, useOutline } from "./outline";
import { use, zones } from "./state";
import { t } from "./strings";
import type { Zone } from "./types";
import { Act, Form, Page, Table, askCode, confirmed, options, say, sayError, type Field, type Value } from "./ui";

const TYPES = ["agriculture", "settlement", "road", "infrastructure", "protected_area", "buffer_zone"];
const zoneFields = (): Field[] => [
  { name: "name", label: t("zone.name"), isRequired: true },
  { name: "zone_type", label: t("zone.type"), kind: "choice", isRequired: true, options: options("zone_type", TYPES) },
  { name: "risk_level", label: t("zone.risk"), kind: "choice", isRequired: true, options: options("risk", ["high", "medium", "low"]) },
  { name: "buffer_distance_km", label: t("zone.buffer"), kind: "number", min: 0, max: 1000 },
  { name: "is_active", label: t("zone.active"), kind: "yes" },
  { name: "description", label: t("zone.words"), kind: "long" },
];

function Editor({ zone, close }: { zone: Zone | null; close: () => void }) {
  const outline = useOutline(zone?.geometry ?? null);
  const save = async (said: Record<string, Value>) => {
    if (outline.isSimple && !outline.geometry) throw new Error(t("zone.too_few"));
    const body = { ...said, ...(outline.geometry ? { geometry: outline.geometry } : {}) };
    if (zone) await call("PATCH", `/api/v1/conflict-zones/${zone.id}/`, body);
    else await post("/api/v1/conflict-zones/", body);
    say(t("form.saved"));
    await loadAreas();
    close();
  };
  const remove = async () => {
    if (await confirmed(t("zone.remove"), <p>{zone?.name}</p>) === null) return;
    if (await withFactor(() => call("DELETE", `/api/v1/conflict-zones/${zone!.id}/`).then(() => true), askCode)) { await loadAreas(); close(); }
  };
  return (
    <div class="editor">
      <Canvas outline={outline} without={zone?.id} />
      <Form title={zone?.name ?? t("zone.new")} fields={zoneFields()} save={save} close={close}
        values={zone ? { ...zone, geometry: null } : { zone_type: "agriculture", risk_level: "medium", buffer_distance_km: 0, is_active: true }}>
        <Corners outline={outline} />
        {zone && <Act class="danger" act={remove}>{t("zone.remove")}</Act>}
      </Form>
    </div>
  );
}

interface Imported { created: number; duplicates: number; failed: number; results: { index: number; errors?: string[] }[] }
/** Enter what a file of GeoJSON holds; `path` has room for the name that it may lack. */
export async function take(file: File, path: string): Promise<void> {
  let body: unknown;
  try { body = JSON.parse(await file.text()); } catch { throw new Error(t("zone.no_geojson")); }
  const found = await post<Imported & { id?: string }>(`${path}&name=${encodeURIComponent(file.name.replace(/\.[^.]*$/, ""))}`, body);
  await loadAreas();
  if (found.results === undefined) return say(t("form.saved"));
  const wrong = found.results.filter((each) => each.errors?.length).slice(0, 3).map((each) => `${each.index + 1}: ${each.errors!.join(", ")}`);
  say([t("zone.imported", { n: found.created, same: found.duplicates, failed: found.failed }), ...wrong].join(" · "), found.failed > 0);
}

export function Import({ taken }: { taken: (file: File) => void }) {
  return (
    <label class="button">{t("zone.import")}<input class="hidden" type="file" accept=".json,.geojson,application/geo+json" onChange={(event) => {
      const file = event.currentTarget.files?.[0];
      event.currentTarget.value = "";
      if (file) taken(file);
    }} /></label>
  );
}

export function Zones() {
  const rows = use(zones);
  const [open, setOpen] = useState<Zone | "new" | null>(null);
  if (open) return <Page title={t("nav.zones")}><Editor zone={open === "new" ? null : open} close={() => setOpen(null)} /></Page>;
  return (
    <Page title={t("nav.zones")} actions={isManager && <>
      <Import taken={(file) => take(file, "/api/v1/conflict-zones/?zone_type=agriculture").catch(sayError)} />
      <button class="main" onClick={() => setOpen("new")}>{t("zone.new")}</button></>}>
      <Table rows={rows} label={t("nav.zones")} onRow={isManager ? setOpen : undefined} columns={[
        { key: "name", label: t("zone.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "type", label: t("zone.type"), cell: (row) => t(`zone_type.${row.zone_type}`), sort: (row) => row.zone_type },
        { key: "risk", label: t("zone.risk"), cell: (row) => t(`risk.${row.risk_level}`), sort: (row) => row.risk_level },
        { key: "buffer", label: t("zone.buffer"), cell: (row) => row.buffer_distance_km, isNumber: true },
        { key: "active", label: t("zone.active"), cell: (row) => t(row.is_active ? "form.yes" : "form.no") },
        { key: "words", label: t("zone.words"), cell: (row) => row.description || "–" },
      ]} />
    </Page>
  );
}
