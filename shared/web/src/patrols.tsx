/** Rangers: where they are, what they wrote into their logs, which patrols are planned. Not for viewers. */
import { useState } from "preact/hooks";
import { call, post } from "./api";
import { isField, isManager } from "./boot";
import { loadRangers } from "./live";
import { useRows } from "./records";
import { homeNow, rangers, use } from "./state";
import { t, word } from "./strings";
import type { LiveRanger } from "./types";
import { Act, Form, Page, Severity, Table, Time, confirmed, options, say, type Field, type Value } from "./ui";
import { useWhereabouts } from "./whereabouts";
import { place } from "./words";

interface Line {
  id: string; ranger: string | null; log_type: string; priority: "low" | "medium" | "high" | "critical"; title: string; description: string;
  lat: number | null; lon: number | null; timestamp: string; photo_url: string | null; notes: string | null; is_resolved: boolean; updated_at: string;
}
interface Route {
  id: string; name: string; team: string | null; scheduled_start: string | null; scheduled_end: string | null; actual_start: string | null;
  actual_end: string | null; status: "planned" | "in_progress" | "completed" | "cancelled";
}
const TYPES = ["patrol_start", "patrol_end", "animal_sighting", "emergency", "incident", "checkpoint", "rest_break", "other"];
const PRIORITIES = ["low", "medium", "high", "critical"];

const lineFields = (): Field[] => [
  { name: "log_type", label: t("observation.type"), kind: "choice", isRequired: true, options: options("log_type", TYPES) },
  { name: "priority", label: t("alerts.severity"), kind: "choice", isRequired: true, options: options("severity", PRIORITIES) },
  { name: "title", label: t("patrol.title"), isRequired: true },
  { name: "timestamp", label: t("observation.at"), kind: "time", isRequired: true },
  { name: "lat", label: t("observation.lat"), kind: "number", min: -90, max: 90 },
  { name: "lon", label: t("observation.lon"), kind: "number", min: -180, max: 180 },
  { name: "description", label: t("observation.words"), kind: "long" },
];

export function RangerTable() {
  const found = use(rangers);
  return <Table rows={found?.map((each) => ({ ...each, id: each.ranger_id })) ?? null} label={t("nav.rangers")} start="name" columns={[
    { key: "name", label: t("user.name"), cell: (row: LiveRanger) => row.name, sort: (row) => row.name },
    { key: "team", label: t("ranger.team"), cell: (row) => row.team_name ?? "–", sort: (row) => row.team_name ?? "" },
    { key: "duty", label: t("animal.status"), cell: (row) => <span class={row.emergencies.length ? "bad" : ""}>{row.emergencies.length > 0 && <span aria-hidden="true">⚠ </span>}{word("duty", row.current_status)}{row.emergencies.map((each) => <div key={each.id}>{each.title}</div>)}</span>, sort: (row) => row.current_status },
    { key: "activity", label: t("ranger.activity"), cell: (row) => word("activity", row.activity_type) },
    { key: "seen", label: t("animal.seen"), cell: (row) => row.current_position ? <><Time at={row.current_position.timestamp} /> (<Time at={row.current_position.timestamp} ago />)</> : "–", sort: (row) => row.last_active ?? "" },
    { key: "place", label: t("animal.place"), cell: (row) => row.current_position ? place(row.current_position.lat, row.current_position.lon) : "–" },
  ]} />;
}

export function Patrols() {
  const [lines, loadLines] = useRows<Line>("/api/v1/rangers/logs/");
  const [routes, loadRoutes] = useRows<Route>("/api/v1/rangers/routes/");
  const [open, setOpen] = useState<Line | "new" | null>(null);
  const found = use(rangers);
  const whereIs = useWhereabouts();
  const names = new Map((found ?? []).map((each) => [each.ranger_id, each.name]));
  const save = async (said: Record<string, Value>) => {
    if (open === "new") await post("/api/v1/rangers/logs/", said);
    else await call("PATCH", `/api/v1/rangers/logs/${open!.id}/`, said);
    say(t("form.saved"));
    setOpen(null);
    await Promise.all([loadLines(), loadRangers()]);
  };
  const resolve = (row: Line) => async () => {
    if (await confirmed(t("patrol.resolve"), <p>{row.title}</p>) === null) return;
    await post(`/api/v1/rangers/logs/${row.id}/resolve/`);
    await Promise.all([loadLines(), loadRangers()]);
  };
  const walk = (row: Route, what: "start_patrol" | "end_patrol") => async () => {
    await post(`/api/v1/rangers/routes/${row.id}/${what}/`);
    await loadRoutes();
  };
  if (open) return (
    <Page title={t("nav.rangers")}><Form title={open === "new" ? t("patrol.new") : open.title} fields={lineFields()} save={save} close={() => setOpen(null)}
      values={open === "new" ? { log_type: "checkpoint", priority: "low", timestamp: new Date(homeNow()).toISOString() } : { ...open }}>
      {open !== "new" && open.photo_url?.startsWith("/") && <p><img class="photo" src={open.photo_url} alt={t("observation.photo")} /></p>}
    </Form></Page>
  );
  return (
    <Page title={t("nav.rangers")} actions={isField && <button class="main" onClick={() => setOpen("new")}>{t("patrol.new")}</button>}>
      <RangerTable />
      <h2>{t("patrol.log")}</h2>
      <Table rows={lines} label={t("patrol.log")} onRow={setOpen} columns={[
        { key: "at", label: t("observation.at"), cell: (row) => <Time at={row.timestamp} />, sort: (row) => row.timestamp },
        { key: "type", label: t("observation.type"), cell: (row) => word("log_type", row.log_type), sort: (row) => row.log_type },
        { key: "priority", label: t("alerts.severity"), cell: (row) => <Severity of={row.priority} />, sort: (row) => PRIORITIES.indexOf(row.priority) },
        { key: "title", label: t("patrol.title"), cell: (row) => row.title },
        { key: "words", label: t("observation.words"), cell: (row) => row.description || "–" },
        { key: "who", label: t("role.ranger"), cell: (row) => names.get(row.ranger ?? "") ?? "–" },
        { key: "place", label: t("animal.place"), cell: (row) => place(row.lat, row.lon, 4) },
        { key: "state", label: t("sync.state"), cell: whereIs },
        { key: "act", label: t("table.acts"), cell: (row) => row.is_resolved ? t("alert_status.resolved") : <Act act={resolve(row)}>{t("patrol.resolve")}</Act> },
      ]} />
      <h2>{t("patrol.routes")}</h2>
      <Table rows={routes} label={t("patrol.routes")} columns={[
        { key: "name", label: t("user.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "status", label: t("animal.status"), cell: (row) => t(`route_status.${row.status}`), sort: (row) => row.status },
        { key: "from", label: t("deployment.started"), cell: (row) => <Time at={row.actual_start ?? row.scheduled_start} />, sort: (row) => row.actual_start ?? row.scheduled_start ?? "" },
        { key: "to", label: t("deployment.ended"), cell: (row) => <Time at={row.actual_end ?? row.scheduled_end} /> },
        { key: "act", label: t("table.acts"), cell: (row) => row.status === "planned" ? <Act act={walk(row, "start_patrol")}>{t("patrol.start")}</Act>
          : row.status === "in_progress" ? <Act act={walk(row, "end_patrol")}>{t("patrol.end")}</Act> : "" },
      ]} />
      {!isManager && <p class="quiet">{t("patrol.own")}</p>}
    </Page>
  );
}
