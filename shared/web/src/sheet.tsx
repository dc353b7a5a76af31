/** The day on paper: where everybody was, what rang, what to write on. */
import { Place, ageOfAnimal } from "./home";
import { boot } from "./boot";
import { reasonsOf } from "./shell";
import { titleOf } from "./alerts";
import { alerts, collars, health, homeNow, live, use } from "./state";
import { t, word } from "./strings";
import { Page, Severity, Table, Time } from "./ui";

export function Sheet() {
  const animals = use(live);
  const found = use(alerts);
  const state = use(health);
  const worn = use(collars);
  return (
    <Page title={`${t("sheet.heading")} · ${boot.name} · ${new Date(homeNow()).toISOString().slice(0, 10)}`}
      actions={<button class="main noprint" onClick={() => print()}>{t("sheet.print")}</button>}>
      {state && <p>{t("status.heading")}: {[t(`status.${state.status}`), ...reasonsOf(state)].join("; ")}</p>}
      <h2>{t("alerts.heading")}</h2>
      <Table rows={found} label={t("alerts.heading")} empty={t("alerts.none")} columns={[
        { key: "severity", label: t("alerts.severity"), cell: (row) => <Severity of={row.severity} /> },
        { key: "title", label: t("alerts.what"), cell: (row) => titleOf(row) },
        { key: "at", label: t("alerts.since"), cell: (row) => <Time at={row.detected_at} /> },
        { key: "status", label: t("animal.status"), cell: (row) => t(`alert_status.${row.status}`) },
        { key: "note", label: t("form.notes"), cell: (row) => row.note ?? "" },
      ]} />
      <h2>{t("map.table")}</h2>
      <Table rows={(animals ?? []).map((each) => ({ ...each, id: each.animal_id }))} label={t("map.table")} columns={[
        { key: "name", label: t("animal.name"), cell: (row) => row.name },
        { key: "species", label: t("animal.species"), cell: (row) => row.species },
        { key: "seen", label: t("animal.fix_at"), cell: (row) => <><Time at={row.current_position.timestamp} /> ({t(`age.${ageOfAnimal(row)}`)})</> },
        { key: "place", label: t("animal.place"), cell: (row) => <Place of={row} digits={4} /> },
        { key: "state", label: t("animal.behaviour"), cell: (row) => word("state", row.movement.behavior_state) },
        { key: "battery", label: t("collar.battery"), cell: (row) => worn.get(row.collar_id ?? "")?.battery_level ?? row.movement.battery_level ?? "–" },
        { key: "remarks", label: t("sheet.remarks"), cell: () => <span class="blank" /> },
      ]} />
      <p class="quiet">{t("sheet.secret")}</p>
    </Page>
  );
}
