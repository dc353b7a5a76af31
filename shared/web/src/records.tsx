/** Animals, their collars and what rangers report: lists, and the forms behind them. */
import { useEffect, useState } from "preact/hooks";
import { all, call, post, withFactor } from "./api";
import { isField, isManager, mayRecord, role } from "./boot";
import { loadLive } from "./live";
import { PhotoField } from "./photos";
import { homeNow } from "./state";
import { t } from "./strings";
import type { Animal, Deployment, Observation } from "./types";
import { Act, Form, Page, Table, Time, askCode, confirmed, options, say, sayError, type Field, type Value } from "./ui";
import { useWhereabouts } from "./whereabouts";
import { place } from "./words";

/** Return a list, and what reads it again. */
export function useRows<T>(path: string): [T[] | null, () => Promise<void>] {
  const [rows, setRows] = useState<T[] | null>(null);
  const load = async () => { try { setRows(await all<T>(path)); } catch (error) { sayError(error); setRows([]); } };
  useEffect(() => void load(), [path]);
  return [rows, load];
}

const animalFields = (): Field[] => [
  { name: "name", label: t("animal.name"), isRequired: true },
  { name: "species", label: t("animal.species"), isRequired: true },
  { name: "status", label: t("animal.status"), kind: "choice", isRequired: true, options: options("animal_status", ["active", "inactive", "missing", "deceased"]) },
  { name: "health_status", label: t("animal.health"), kind: "choice", isRequired: true, options: options("health", ["unknown", "healthy", "injured", "sick"]) },
  { name: "gender", label: t("animal.gender"), kind: "choice", isRequired: true, options: options("gender", ["unknown", "female", "male"]) },
  { name: "age", label: t("animal.years"), kind: "number", min: 0, max: 200 },
  { name: "weight", label: t("animal.weight"), kind: "number", min: 0, max: 200_000 },
  { name: "notes", label: t("form.notes"), kind: "long" },
];
const NEW_ANIMAL = { status: "active", health_status: "unknown", gender: "unknown" };
const deploymentFields = (): Field[] => [
  { name: "collar_id", label: t("animal.collar"), isRequired: true, hint: t("deployment.collar_hint") },
  { name: "started_at", label: t("deployment.started"), kind: "time", isRequired: true },
  { name: "ended_at", label: t("deployment.ended"), kind: "time", hint: t("deployment.ended_hint") },
  { name: "notes", label: t("form.notes"), kind: "long" },
];

function AnimalPage({ animal, close }: { animal: Animal | null; close: () => void }) {
  const [deployment, setDeployment] = useState<Deployment | "new" | null>(null);
  const [worn, loadWorn] = useRows<Deployment>(`/api/v1/deployments/?animal=${animal?.id ?? "-"}`);
  const save = async (said: Record<string, Value>) => {
    if (animal) await call("PATCH", `/api/v1/animals/${animal.id}/`, said);
    else await post("/api/v1/animals/", said);
    say(t("form.saved"));
    close();
  };
  const saveDeployment = async (said: Record<string, Value>) => {
    if (deployment === "new") await post("/api/v1/deployments/", { ...said, animal: animal!.id });
    else await call("PATCH", `/api/v1/deployments/${deployment!.id}/`, said);
    say(t("form.saved"));
    setDeployment(null);
    await loadWorn();
    void loadLive();
  };
  const remove = async () => {
    if (await confirmed(t("animal.remove"), <p>{t("animal.remove_body")}</p>) === null) return;
    if (await withFactor(() => call("DELETE", `/api/v1/animals/${animal!.id}/`).then(() => true), askCode)) close();
  };
  if (deployment) return <Form title={t("deployment.title")} fields={deploymentFields()} save={saveDeployment} close={() => setDeployment(null)}
    values={deployment === "new" ? { started_at: new Date(homeNow()).toISOString() } : { ...deployment }} />;
  return (
    <>
      {mayRecord ? <Form title={animal?.name ?? t("animal.new")} fields={animalFields()} values={animal ? { ...animal } : NEW_ANIMAL} save={save} close={close} />
        : <section class="sheet"><h2>{animal?.name}</h2><p>{animal?.species}</p><button onClick={close}>{t("form.close")}</button></section>}
      {animal && <section>
        <header class="row"><h2>{t("deployment.heading")}</h2><span class="grow" />
          {mayRecord && <button onClick={() => setDeployment("new")}>{t("deployment.new")}</button>}</header>
        <Table rows={worn} label={t("deployment.heading")} onRow={mayRecord ? setDeployment : undefined} columns={[
          { key: "collar", label: t("animal.collar"), cell: (row) => row.collar_id },
          { key: "from", label: t("deployment.started"), cell: (row) => <Time at={row.started_at} /> },
          { key: "to", label: t("deployment.ended"), cell: (row) => <Time at={row.ended_at} /> },
          { key: "notes", label: t("form.notes"), cell: (row) => row.notes ?? "–" },
        ]} />
        {isManager && <Act class="danger" act={remove}>{t("animal.remove")}</Act>}
      </section>}
    </>
  );
}

export function Animals() {
  const [rows, load] = useRows<Animal>("/api/v1/animals/?ordering=name");
  const [open, setOpen] = useState<Animal | "new" | null>(null);
  const close = () => { setOpen(null); void load(); void loadLive(); };
  if (open) return <Page title={t("nav.animals")}><AnimalPage animal={open === "new" ? null : open} close={close} /></Page>;
  return (
    <Page title={t("nav.animals")} actions={mayRecord && <button class="main" onClick={() => setOpen("new")}>{t("animal.new")}</button>}>
      <Table rows={rows} label={t("nav.animals")} onRow={setOpen} start="name" columns={[
        { key: "name", label: t("animal.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "species", label: t("animal.species"), cell: (row) => row.species, sort: (row) => row.species },
        { key: "status", label: t("animal.status"), cell: (row) => t(`animal_status.${row.status}`), sort: (row) => row.status },
        { key: "health", label: t("animal.health"), cell: (row) => t(`health.${row.health_status}`), sort: (row) => row.health_status },
        { key: "gender", label: t("animal.gender"), cell: (row) => t(`gender.${row.gender}`), sort: (row) => row.gender },
        { key: "collar", label: t("animal.collar"), cell: (row) => row.collar_id ?? "–", sort: (row) => row.collar_id ?? "" },
      ]} />
    </Page>
  );
}

const KINDS = ["sighting", "behavior", "health", "environment"];
export function Observations() {
  const [rows, load] = useRows<Observation>("/api/v1/tracking/observations/");
  const [animals] = useRows<Animal>("/api/v1/animals/?ordering=name");
  const [open, setOpen] = useState<Observation | "new" | null>(null);
  const [photo, setPhoto] = useState<string | null>(null);
  const whereIs = useWhereabouts();
  const names = new Map((animals ?? []).map((each) => [each.id, each.name]));
  const fields: Field[] = [
    { name: "observation_type", label: t("observation.type"), kind: "choice", isRequired: true, options: options("observation_type", KINDS) },
    { name: "timestamp", label: t("observation.at"), kind: "time", isRequired: true },
    { name: "animal", label: t("animal.name"), kind: "choice", options: [...names] },
    { name: "lat", label: t("observation.lat"), kind: "number", min: -90, max: 90 },
    { name: "lon", label: t("observation.lon"), kind: "number", min: -180, max: 180 },
    { name: "observer", label: t("observation.observer") },
    { name: "description", label: t("observation.words"), kind: "long" },
  ];
  const save = async (said: Record<string, Value>) => {
    const body = photo ? { ...said, photo_url: photo } : said;
    if (open === "new") await post("/api/v1/tracking/observations/", body);
    else await call("PATCH", `/api/v1/tracking/observations/${open!.id}/`, body);
    say(t("form.saved"));
    close();
    await load();
  };
  const close = () => { setOpen(null); setPhoto(null); };
  const remove = (row: Observation) => async () => {
    if (await confirmed(t("observation.remove")) === null) return;
    await call("DELETE", `/api/v1/tracking/observations/${row.id}/`);
    setOpen(null);
    await load();
  };
  if (open) return (
    <Page title={t("nav.observations")}>
      <Form title={open === "new" ? t("observation.new") : t("observation.title")} fields={fields} save={save} close={close}
        values={open === "new" ? { observation_type: "sighting", timestamp: new Date(homeNow()).toISOString() } : { ...open }}>
        <PhotoField url={photo ?? (open === "new" ? null : open.photo_url)} change={setPhoto} />
        {open !== "new" && <Act class="danger" act={remove(open)}>{t("observation.remove")}</Act>}
      </Form>
    </Page>
  );
  return (
    <Page title={t("nav.observations")} actions={isField && <button class="main" onClick={() => setOpen("new")}>{t("observation.new")}</button>}>
      {role === "ranger" && <p class="quiet">{t("observation.own")}</p>}
      <Table rows={rows} label={t("nav.observations")} onRow={isField ? setOpen : undefined} columns={[
        { key: "at", label: t("observation.at"), cell: (row) => <Time at={row.timestamp} />, sort: (row) => row.timestamp },
        { key: "type", label: t("observation.type"), cell: (row) => t(`observation_type.${row.observation_type}`), sort: (row) => row.observation_type },
        { key: "animal", label: t("animal.name"), cell: (row) => names.get(row.animal ?? "") ?? "–", sort: (row) => names.get(row.animal ?? "") ?? "" },
        { key: "words", label: t("observation.words"), cell: (row) => row.description || "–" },
        { key: "photo", label: t("photo.photo"), cell: (row) => (row.photo_url ? "▣" : "–") },
        { key: "place", label: t("animal.place"), cell: (row) => (row.lat === null && row.area ? t("precision.area", { area: row.area }) : place(row.lat, row.lon, role === "viewer" ? 2 : 4)) },
        { key: "who", label: t("observation.observer"), cell: (row) => row.observer ?? "–" },
        { key: "state", label: t("sync.state"), cell: whereIs },
      ]} />
    </Page>
  );
}
