/** The feed of alerts: what, who, since when; seen, noted, closed. Grouped by what it is about. */
import { post } from "./api";
import { isField, isManager } from "./boot";
import { loadAlerts } from "./live";
import { alerts, live, selected, use } from "./state";
import { t, told, word } from "./strings";
import type { Alert } from "./types";
import { Act, Severity, Time, askText } from "./ui";

/** What an alert says, in this page's language where Outpost says it. */
export const titleOf = (alert: Alert) => told(alert.title_said, word("alert_type", alert.title));

const RANK = { critical: 0, high: 1, medium: 2, low: 3 } as const;

const act = (alert: Alert, what: string, body: unknown = {}) => async () => {
  await post(`/api/v1/alerts/${alert.id}/${what}/`, body);
  await loadAlerts();
};
async function note(alert: Alert): Promise<void> {
  const text = await askText(t("alerts.note"), titleOf(alert), { value: alert.note ?? "", isLong: true });
  if (text !== null) await act(alert, "note", { note: text || null })();
}
async function close(alert: Alert, what: "resolve" | "false_alarm"): Promise<void> {
  const text = await askText(t(`alerts.${what}`), t("alerts.why"), { isLong: true });
  if (text !== null) await act(alert, what, what === "resolve" ? { resolution_notes: text || null } : { notes: text || null })();
}

/** Alerts of one animal and kind are one entry: the newest, and how many there are. */
export function grouped(found: Alert[]): Alert[][] {
  const groups = new Map<string, Alert[]>();
  for (const each of found) {
    const key = `${each.status} ${each.alert_type} ${each.animal ?? each.id}`;
    groups.set(key, [...(groups.get(key) ?? []), each]);
  }
  return [...groups.values()].sort((a, b) =>
    Number(a[0]!.status !== "active") - Number(b[0]!.status !== "active") || RANK[a[0]!.severity] - RANK[b[0]!.severity]
    || Date.parse(b[0]!.detected_at) - Date.parse(a[0]!.detected_at));
}

function Entry({ group }: { group: Alert[] }) {
  const alert = group[0]!;
  const animal = live.value?.find((each) => each.animal_id === alert.animal);
  const each = (run: (one: Alert) => () => Promise<void>) => async () => { for (const one of group) await run(one)(); };
  return (
    <li class={`alert ${alert.severity} ${alert.status}`} data-alert={alert.id}>
      <div class="row"><Severity of={alert.severity} />{group.length > 1 && <span class="count">×{group.length}</span>}
        {alert.metadata.is_late && <span class="tag">{t("alerts.late")}</span>}<span class="grow" /><Time at={alert.detected_at} /></div>
      <strong>{titleOf(alert)}</strong>
      {alert.message && <p>{told(alert.message_said, alert.message)}</p>}
      {alert.note && <p class="note">{alert.note}</p>}
      {isField && <div class="row wrap">
        {alert.status === "active" && <Act class="main" act={each((one) => act(one, "acknowledge"))}>{t("alerts.acknowledge")}</Act>}
        {alert.status === "acknowledged" && <span class="tag">✓ {t("alerts.seen")} <Time at={alert.acknowledged_at} /></span>}
        <Act act={() => note(alert)}>{t("alerts.note")}</Act>
        <Act act={() => close(alert, "resolve")}>{t("alerts.resolve")}</Act>
        {isManager && <Act act={() => close(alert, "false_alarm")}>{t("alerts.false_alarm")}</Act>}
        {animal && <button onClick={() => { selected.set(animal.animal_id); location.hash = "#/"; }}>{t("alerts.show")}</button>}
      </div>}
    </li>
  );
}

export function Feed() {
  const found = use(alerts);
  const groups = grouped(found ?? []);
  const active = (found ?? []).filter((each) => each.status === "active");
  return (
    <section class="feed" aria-label={t("alerts.heading")}>
      <h2>{t("alerts.heading")} {active.length > 0 && <span class="count loud">{active.length}</span>}</h2>
      <p class="hidden" role="status" aria-live="assertive">{active[0] ? `${t(`severity.${active[0].severity}`)}: ${titleOf(active[0])}` : ""}</p>
      {found === null ? <p class="quiet" aria-busy="true">{t("page.loading")}</p>
        : groups.length === 0 ? <p class="quiet">{t("alerts.none")}</p>
        : <ul>{groups.map((group) => <Entry key={group[0]!.id} group={group} />)}</ul>}
    </section>
  );
}
