/** Long work of the cloud, while it goes on: by its stream of events. */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { call } from "./api";
import { t } from "./strings";
import { Act } from "./ui";

export interface Job<Result = unknown, Asked = unknown, Best = unknown> {
  id: string; kind: string; state: "queued" | "running" | "succeeded" | "failed" | "cancelled"; percent: number; message: string;
  best: Best | null; result: Result | null; error: { code: string; detail: string } | null;
  parameters: Asked; created_at: string;
}
export const hasEnded = (job: Pick<Job, "state">) => job.state === "succeeded" || job.state === "failed" || job.state === "cancelled";

/** Follows a job until it has ended: by its stream, which goes on where it broke off. */
export function Watch<R, A, B>({ first, ended, title, best, children }: {
  first: Job<R, A, B>; ended: (job: Job<R, A, B>) => void; title: ComponentChildren; best?: (job: Job<R, A, B>) => string; children?: (job: Job<R, A, B>) => ComponentChildren;
}) {
  const [job, setJob] = useState(first);
  const [lines, setLines] = useState<string[]>([]);
  useEffect(() => {
    if (hasEnded(first)) return;
    const source = new EventSource(`/api/v1/jobs/${first.id}/events`);
    const heard = <T,>(name: string, take: (data: T) => void) =>
      source.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data) as T));
    heard<Job<R, A, B>>("state", (now) => {
      setJob(now);
      if (hasEnded(now)) { source.close(); ended(now); }
    });
    heard<Pick<Job<R, A, B>, "percent" | "message" | "best">>("progress", (now) => setJob((was) => ({ ...was, ...now })));
    heard<{ line: string }>("log", (now) => setLines((was) => [...was, now.line].slice(-6)));
    return () => source.close();
  }, [first.id]);
  const cancel = async () => setJob(await call<Job<R, A, B>>("DELETE", `/api/v1/jobs/${job.id}/`));
  return (
    <li class="card" data-job={job.id} data-state={job.state}>
      <div class="row wrap">{title}
        <span class="grow" /><span aria-live="polite">{t(`job.${job.state}`)}</span></div>
      {!hasEnded(job) && <div class="row"><progress max={100} value={job.percent} aria-label={t("job.progress")} /><span>{Math.round(job.percent)} % {best?.(job)}</span>
        <span class="grow" /><Act act={cancel}>{t("job.cancel")}</Act></div>}
      {children?.(job)}
      {job.error && <p class="error" role="alert">{job.error.detail}</p>}
      {lines.length > 0 && <ul class="quiet small">{lines.map((each, n) => <li key={n}>{each}</li>)}</ul>}
    </li>
  );
}
