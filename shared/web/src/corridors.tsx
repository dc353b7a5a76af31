/** Routes to keep open: a list, and a map to draw their line on; a search for a better one is the studio's, in the cloud. */
import { useState } from "preact/hooks";
import { call, withFactor } from "./api";
import { isManager } from "./boot";
import { loadAreas } from "./live";
import { Canvas, Corners, useOutline } from "./outline";
import { corridors, use } from "./state";
import { t } from "./strings";
import type { Corridor } from "./types";
import { Act, Form, Page, Table, askCode, confirmed, options, say, sayError, type Field, type Value } from "./ui";
import { Import, take } from "./zones";

const corridorFields = (): Field[] => [
  { name: "name", label: t("corridor.name"), isRequired: true },
  { name: "species", label: t("animal.species") },
  { name: "width_m", label: t("corridor.width"), kind: "number", min: 1, max: 100_000 },
  { name: "status", label: t("animal.status"), kind: "choice", isRequired: true, options: options("corridor_status", ["planned", "under_review", "active", "inactive"]), hint: t("corridor.status_hint") },
  { name: "description", label: t("zone.words"), kind: "long" },
];

function Editor({ corridor, close }: { corridor: Corridor | null; close: () => void }) {
  const outline = useOutline(corridor?.geometry ?? null, "line");
  const save = async ({ width_m, description, ...said }: Record<string, Value>) => {
    // a plan between two places may stay one; a line that was there is not lost by clearing the map
    if (outline.isSimple && !outline.geometry && (!corridor || corridor.geometry || outline.ring.length)) throw new Error(t("corridor.too_few"));
    const body = { ...said, description: description ?? "", ...(width_m === null ? {} : { width_m }), ...(outline.geometry ? { geometry: outline.geometry } : {}) };
    const path = corridor ? `/api/v1/corridors/${corridor.id}/` : "/api/v1/corridors/";
    // what is published asks for a factor of the last minutes
    if (!await withFactor(() => call(corridor ? "PATCH" : "POST", path, body).then(() => true), askCode)) return;
    say(t("form.saved"));
    await loadAreas();
    close();
  };
  const remove = async () => {
    if (await confirmed(t("corridor.remove"), <p>{corridor?.name}</p>) === null) return;
    if (await withFactor(() => call("DELETE", `/api/v1/corridors/${corridor!.id}/`).then(() => true), askCode)) { await loadAreas(); close(); }
  };
  return (
    <div class="editor">
      <Canvas outline={outline} without={corridor?.id} />
      <Form title={corridor?.name ?? t("corridor.new")} fields={corridorFields()} save={save} close={close}
        values={corridor ? { ...corridor, geometry: null } : { status: "planned", width_m: 500 }}>
        <Corners outline={outline} />
        {corridor && <Act class="danger" act={remove}>{t("corridor.remove")}</Act>}
      </Form>
    </div>
  );
}

export function Corridors() {
  const rows = use(corridors);
  const [open, setOpen] = useState<Corridor | "new" | null>(null);
  if (open) return <Page title={t("nav.corridors")}><Editor corridor={open === "new" ? null : open} close={() => setOpen(null)} /></Page>;
  return (
    <Page title={t("nav.corridors")} actions={isManager && <>
      <Import taken={(file) => take(file, "/api/v1/corridors/?").catch(sayError)} />
      <button class="main" onClick={() => setOpen("new")}>{t("corridor.new")}</button></>}>
      <Table rows={rows} label={t("nav.corridors")} empty={t("corridor.none")} onRow={isManager ? setOpen : undefined} start="name" columns={[
        { key: "name", label: t("corridor.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "species", label: t("animal.species"), cell: (row) => row.species ?? "–", sort: (row) => row.species ?? "" },
        { key: "status", label: t("animal.status"), cell: (row) => t(`corridor_status.${row.status}`), sort: (row) => row.status },
        { key: "width", label: t("corridor.width"), cell: (row) => row.width_m, sort: (row) => row.width_m, isNumber: true },
        { key: "words", label: t("zone.words"), cell: (row) => row.description || "–" },
      ]} />
    </Page>
  );
}
