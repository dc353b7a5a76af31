/** What a person decides: two values of one thing side by side; and which models speak, and why another does not. */
import { useEffect, useState } from "preact/hooks";
import { get, post } from "./api";
import { isManager } from "./boot";
import { useRows } from "./records";
import { t, word } from "./strings";
import { Act, Page, Table, Time, askText, say, sayError } from "./ui";

interface Conflict {
  id: string; kind: string; entity: string; row_id: string; other_id: string | null; server: Record<string, unknown>;
  client: Record<string, unknown>; author: string | null; origin: string; made_at: string; needs_person: boolean;
  status: "open" | "resolved"; resolution: string | null; note: string | null; resolved_by: string | null;
  resolved_at: string | null; can_resolve: boolean;
}
const shown = (value: unknown) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

/** `keep_both` is of two like observations, `merge` of two animals that are one: of other kinds neither means anything. */
export function choices(conflict: Pick<Conflict, "kind">): string[] {
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

interface Model { status: string; versions: Record<string, string>; detail: string | null }
export function Models() {
  const [found, setFound] = useState<{ status: string; models: Record<string, Model> } | null>(null);
  useEffect(() => void get<{ status: string; models: Record<string, Model> }>("/api/v1/predictions/ml_status").then(setFound, sayError), []);
  const rows = found ? Object.entries(found.models).map(([name, model]) => ({ id: name, ...model })) : null;
  return (
    <Page title={t("nav.models")}>
      <Table rows={rows} label={t("nav.models")} columns={[
        { key: "name", label: t("model.name"), cell: (row) => word("model", row.id), sort: (row) => row.id },
        { key: "status", label: t("animal.status"), cell: (row) => <span class={row.status === "ready" ? "age-fresh" : "warn"}>{row.status === "ready" ? "● " : "⚠ "}{word("model_status", row.status)}</span>, sort: (row) => row.status },
        { key: "versions", label: t("model.versions"), cell: (row) => Object.entries(row.versions).map(([key, value]) => <div key={key}><span class="quiet">{key}</span> {value}</div>) },
        { key: "detail", label: t("model.detail"), cell: (row) => row.detail ?? "–" },
      ]} />
    </Page>
  );
}
