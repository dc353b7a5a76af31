/** What a person decides: two values of one thing side by side; and which models speak, and why another does not. */
import { useEffect, useState } from "preact/hooks";
import { get, post, withFactor } from "./api";
import { isManager, role } from "./boot";
import { useRows } from "./records";
import { t, word } from "./strings";
import { Act, Page, Table, Time, askCode, askText, confirmed, say, sayError } from "./ui";

interface Conflict {
  id: string; kind: string; entity: string; row_id: string; other_id: string | null; server: Record<string, unknown>;
  client: Record<string, unknown>; author: string | null; origin: string; made_at: string; needs_person: boolean;
  status: "open" | "resolved"; resolution: string | null; note: string | null; resolved_by: string | null;
  resolved_at: string | null; can_resolve: boolean;
}
const shown = (value: unknown) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

/** `keep_both` is of two like observations, `merge` of two animals that are one: of other kinds neither means anything. */
export function choices(conflict: Pick<Conflict, "kind">): string[] {
  if (conflict.kind === "position_disagreement") return ["keep_both"];
  const more = { duplicate_collar: ["merge"], duplicate_observation: ["keep_both"] }[conflict.kind] ?? [];
  return ["keep_server", "keep_client", ...more];
}

export function Conflicts() {
  const [rows, load] = useRows<Conflict>("/api/v1/conflicts/?status=open");
  const resolve = (conflict: Conflict, resolution: string) => async () => {
    const note = await askText(t(`conflict.${resolution}`), t("alerts.why"), { isLong: true });
    if (note === null) return;
    await post(`/api/v1/conflicts/${conflict.id}/resolve/`, { resolution, note: note || null });
    say(t("form.saved"));
    await load();
  };
  return (
    <Page title={t("nav.conflicts")}>
      <p class="quiet">{t("conflict.heading")}</p>
      {rows === null ? <p class="quiet" aria-busy="true">{t("page.loading")}</p> : rows.length === 0 ? <p>{t("conflict.none")}</p> : (
        <ul class="feedlist">{rows.map((each) => (
          <li key={each.id} class={`alert ${each.needs_person ? "high" : "low"}`} data-conflict={each.id}>
            <div class="row wrap"><strong>{word("conflict_kind", each.kind)}</strong><span class="tag">{word("entity", each.entity)} {each.row_id.slice(0, 8)}</span>
              <span class="grow" /><span>{each.author ?? each.origin}</span><Time at={each.made_at} /></div>
            <div class="scroll" tabIndex={0} role="region" aria-label={word("conflict_kind", each.kind)}><table>
              <thead><tr><th scope="col">{t("conflict.column")}</th><th scope="col">{t("conflict.server")}</th><th scope="col">{t("conflict.client")}</th></tr></thead>
              <tbody>{[...new Set([...Object.keys(each.server), ...Object.keys(each.client)])].map((column) => (
                <tr key={column}><th scope="row">{column}</th><td>{shown(each.server[column])}</td><td>{shown(each.client[column])}</td></tr>))}</tbody>
            </table></div>
            {each.can_resolve && isManager
              ? <div class="row wrap">{choices(each).map((choice) => <Act key={choice} act={resolve(each, choice)}>{t(`conflict.${choice}`)}</Act>)}</div>
              : <p class="quiet">{t("conflict.elsewhere")}</p>}
          </li>))}</ul>)}
    </Page>
  );
}

interface Artefact {
  model: string; name: string; version: number; sha256: string; size: number; species: string[]; metrics: Record<string, number>; trained_on: string[];
  origin: "program" | "brought"; is_active: boolean; is_forced: boolean; stations: string[]; problem: string | null;
}
/** Every version that this home has, with what was measured of it; administrators choose which one serves. */
function Registry() {
  const [found, load] = useRows<Artefact>("/api/v1/models/");
  const choose = (row: Artefact, what: "activate" | "roll_back") => async () => {
    if (await confirmed(t(`model.${what}`), <p>{word("model", row.model)} {row.name} {what === "activate" ? row.version : ""}. {t("model.stations_body")}</p>) === null) return;
    const body = { model: row.model, name: row.name, ...(what === "activate" ? { version: row.version } : {}) };
    if (await withFactor(() => post(`/api/v1/models/${what}/`, body), askCode)) { say(t("form.saved")); await load(); }
  };
  const rows = found?.map((each) => ({ ...each, id: `${each.model} ${each.name} ${each.version}` })) ?? null;
  return <Table rows={rows} label={t("model.registry")} start="name" columns={[
    { key: "name", label: t("model.name"), cell: (row) => `${word("model", row.model)}: ${row.name}`, sort: (row) => row.id },
    { key: "version", label: t("model.version"), cell: (row) => row.version, sort: (row) => row.version, isNumber: true },
    { key: "status", label: t("animal.status"), cell: (row) => row.problem ? <span class="bad">⚠ {row.problem}</span> : row.is_active ? <span class="age-fresh">● {t(row.is_forced ? "model.forced" : "model.serves")}</span> : t("model.rests") },
    { key: "species", label: t("animal.species"), cell: (row) => row.species.join(", ") || t("model.all_species") },
    { key: "metrics", label: t("model.metrics"), cell: (row) => Object.keys(row.metrics).length === 0 ? "–" : <details><summary>{t("model.figures", { n: Object.keys(row.metrics).length })}</summary>{Object.entries(row.metrics).map(([key, value]) => <div key={key}><span class="quiet">{key}</span> {Number(value.toPrecision(4))}</div>)}</details> },
    { key: "origin", label: t("model.origin"), cell: (row) => t(`model.${row.origin}`) },
    { key: "size", label: t("model.size"), cell: (row) => (row.size < 1000 ? `${row.size} B` : `${Math.round(row.size / 1000)} kB`), sort: (row) => row.size, isNumber: true },
    { key: "stations", label: t("nav.stations"), cell: (row) => row.stations.map((each) => each || t("model.everywhere")).join(", ") || "–" },
    { key: "act", label: t("table.acts"), cell: (row) => role !== "admin" || row.is_forced ? "" : <span class="row">
      {!row.is_active && !row.problem && <Act act={choose(row, "activate")}>{t("model.activate")}</Act>}
      {row.stations.length > 0 && <Act act={choose(row, "roll_back")}>{t("model.roll_back")}</Act>}</span> },
  ]} />;
}

interface Model { status: string; versions: Record<string, string>; detail: string | null }
export function Models() {
  const [found, setFound] = useState<{ status: string; models: Record<string, Model> } | null>(null);
  useEffect(() => void get<{ status: string; models: Record<string, Model> }>("/api/v1/predictions/ml_status").then(setFound, sayError), []);
  const rows = found ? Object.entries(found.models).map(([name, model]) => ({ id: name, ...model })) : null;
  return (
    <Page title={t("nav.models")}>
      {isManager && <Registry />}
      <h2>{t("model.now")}</h2>
      <Table rows={rows} label={t("nav.models")} columns={[
        { key: "name", label: t("model.name"), cell: (row) => word("model", row.id), sort: (row) => row.id },
        { key: "status", label: t("animal.status"), cell: (row) => <span class={row.status === "ready" ? "age-fresh" : "warn"}>{row.status === "ready" ? "● " : "⚠ "}{word("model_status", row.status)}</span>, sort: (row) => row.status },
        { key: "versions", label: t("model.versions"), cell: (row) => Object.entries(row.versions).map(([key, value]) => <div key={key}><span class="quiet">{key}</span> {value}</div>) },
        { key: "detail", label: t("model.detail"), cell: (row) => row.detail ?? "–" },
      ]} />
    </Page>
  );
}
