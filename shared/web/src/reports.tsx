/** Reports of a period and exports of positions: asked for, followed, and fetched when they are written. */
import { useEffect, useState } from "preact/hooks";
import { get, post, withFactor, type Paged } from "./api";
import { boot, isManager } from "./boot";
import { Watch, type Job as AnyJob } from "./jobs";
import { homeNow } from "./state";
import { t, word } from "./strings";
import { Form, Page, Time, askCode, options, sayError, type Field, type Value } from "./ui";

type Job = AnyJob<{ url: string; file: string; rows?: number; fixes?: number }, { subject?: string; format: string }>;
/** Those worked out of exact positions are for managers. */
const SUBJECTS = isManager ? ["movement", "corridors", "conflicts", "species", "habitat"] : ["conflicts", "species"];
const DAY_MS = 86_400_000;
const span = (): Field[] => [
  { name: "since", label: t("report.since"), kind: "time", isRequired: true },
  { name: "until", label: t("report.until"), kind: "time", isRequired: true },
  { name: "species", label: t("animal.species"), hint: t("report.species_hint") },
];
const reportFields = (): Field[] => [
  { name: "subject", label: t("report.subject"), kind: "choice", isRequired: true, options: options("report", SUBJECTS) },
  { name: "format", label: t("report.format"), kind: "choice", isRequired: true, options: options("report_format", ["pdf", "xlsx", "json"]) }, ...span()];
const exportFields = (): Field[] => [
  { name: "format", label: t("report.format"), kind: "choice", isRequired: true, options: [["tidy", "CSV"], ["movebank", "Movebank CSV"], ["gpx", "GPX"], ["geojson", "GeoJSON"], ["kml", "KML"], ["geoparquet", "GeoParquet"]] }, ...span()];

export function Reports() {
  const [open, setOpen] = useState<"reports" | "exports" | null>(null);
  const [jobs, setJobs] = useState<Job[] | null>(null);
  useEffect(() => {
    void Promise.all(["report", "export"].map((kind) => get<Paged<Job>>(`/api/v1/jobs/?kind=${kind}&page_size=20`))).then((found) =>
      setJobs(found.flatMap((each) => each.results).sort((a, b) => (a.created_at < b.created_at ? 1 : -1))), sayError);
  }, []);
  const ask = (path: "reports" | "exports") => async (said: Record<string, Value>) => {
    const job = await withFactor(() => post<Job>(`/api/v1/${path}/`, path === "reports" ? { ...said, language: boot.lang } : said), askCode);
    if (!job) return;
    setJobs((was) => [job, ...(was ?? [])]);
    setOpen(null);
  };
  const now = homeNow();
  const values = { subject: "movement", format: open === "exports" ? "tidy" : "pdf", since: new Date(now - 30 * DAY_MS).toISOString(), until: new Date(now).toISOString() };
  if (open) return <Page title={t("nav.reports")}><Form title={t(open === "reports" ? "report.new" : "report.export")} close={() => setOpen(null)} save={ask(open)}
    fields={open === "reports" ? reportFields() : exportFields()} values={isManager ? values : { ...values, subject: "species" }} /></Page>;
  return (
    <Page title={t("nav.reports")} actions={<><button onClick={() => setOpen("exports")}>{t("report.export")}</button><button class="main" onClick={() => setOpen("reports")}>{t("report.new")}</button></>}>
      <p class="quiet">{t("report.kept")}</p>
      {jobs === null ? <p class="quiet" aria-busy="true">{t("page.loading")}</p> : jobs.length === 0 ? <p>{t("report.none")}</p>
        : <ul class="feedlist">{jobs.map((each) => (
          <Watch key={each.id} first={each} ended={() => {}} title={<><strong>{each.parameters.subject ? word("report", each.parameters.subject) : t("report.export")}</strong>
            <span class="tag">{each.parameters.format}</span><Time at={each.created_at} /></>}>
            {(job) => job.state === "succeeded" && job.result && <p><a href={job.result.url} download={job.result.file}>{t("report.fetch", { file: job.result.file })}</a></p>}
          </Watch>))}</ul>}
    </Page>
  );
}
