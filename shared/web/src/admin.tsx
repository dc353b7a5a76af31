/** Who may do what: stations, people, programs' keys, and the log of all of it. */
import qrcode from "qrcode-generator";
import { useEffect, useState } from "preact/hooks";
import { all, call, get, post, withFactor } from "./api";
import { role } from "./boot";
import { loadHealth } from "./live";
import { useRows } from "./records";
import { StationScope } from "./scope";
import { homeNow, stations, use } from "./state";
import { t } from "./strings";
import type { ApiKey, AuditLine, Station, User } from "./types";
import { Act, Form, Page, Table, Time, askCode, confirmed, options, say, type Field, type Value } from "./ui";

export function Qr({ text, label }: { text: string; label: string }) {
  const code = qrcode(0, "M");
  code.addData(text);
  code.make();
  const n = code.getModuleCount();
  let path = "";
  for (let y = 0; y < n; y++) for (let x = 0; x < n; x++) if (code.isDark(y, x)) path += `M${x + 4} ${y + 4}h1v1h-1z`;
  return <svg class="qr" viewBox={`0 0 ${n + 8} ${n + 8}`} role="img" aria-label={label} shape-rendering="crispEdges"><rect width="100%" height="100%" fill="#fff" /><path d={path} fill="#000" /></svg>;
}

interface Code { id: string; name: string; code: string; expires_at: string }
export function Stations() {
  const rows = use(stations);
  const [open, setOpen] = useState(false);
  const [limited, setLimited] = useState<Station | null>(null);
  const [code, setCode] = useState<Code | null>(null);
  const invite = async (said: Record<string, Value>) => {
    const made = await withFactor(() => post<Code>("/api/v1/stations/", said), askCode);
    if (made) { setCode(made); setOpen(false); }
  };
  const retire = (row: Station) => async () => {
    if (await confirmed(t("station.retire"), <p>{row.name}. {t("station.retire_body")}</p>) === null) return;
    if (await withFactor(() => post(`/api/v1/stations/${row.id}/retire/`), askCode)) await loadHealth();
  };
  const late = (row: Station) => !row.last_seen_at || homeNow() - Date.parse(row.last_seen_at) > 3_600_000;
  if (limited) return <StationScope station={limited} close={() => setLimited(null)} />;
  if (open) return <Page title={t("nav.stations")}><Form title={t("station.invite")} values={{}} save={invite} close={() => setOpen(false)} fields={[
    { name: "name", label: t("station.name"), isRequired: true }, { name: "id", label: t("station.id"), hint: t("station.id_hint") }]} /></Page>;
  return (
    <Page title={t("nav.stations")} actions={role === "admin" && <button class="main" onClick={() => setOpen(true)}>{t("station.invite")}</button>}>
      {code && <section class="sheet secret" aria-label={t("station.code")}>
        <h2>{code.name}</h2>
        <p>{t("station.code_body")} <Time at={code.expires_at} /></p>
        <p><code class="large">{code.code}</code></p>
        <Qr text={`${location.origin} ${code.code}`} label={t("station.code")} />
        <p><code>outpost-station enrol {location.origin} {code.code}</code></p>
        <button onClick={() => setCode(null)}>{t("form.close")}</button></section>}
      <Table rows={rows} label={t("nav.stations")} empty={t("station.none")} columns={[
        { key: "name", label: t("station.name"), cell: (row) => <>{row.is_retired ? "" : <span class={late(row) ? "warn" : "age-fresh"}>{late(row) ? "⚠ " : "● "}</span>}{row.name}{row.doubled_at && <p class="warn">⚠ {t("station.doubled")} <Time at={row.doubled_at} /></p>}</>, sort: (row) => row.name },
        { key: "id", label: t("station.id"), cell: (row) => row.id },
        { key: "seen", label: t("station.seen"), cell: (row) => <><Time at={row.last_seen_at} /> {row.last_seen_at && <>(<Time at={row.last_seen_at} ago />)</>}</>, sort: (row) => row.last_seen_at ?? "" },
        { key: "behind", label: t("station.behind"), cell: (row) => row.behind, sort: (row) => row.behind, isNumber: true },
        { key: "scope", label: t("scope.label"), cell: (row) => t(row.has_scope ? "scope.limited" : "scope.everything") },
        { key: "enrolled", label: t("station.enrolled"), cell: (row) => <Time at={row.enrolled_at} /> },
        { key: "act", label: t("table.acts"), cell: (row) => row.is_retired ? t("station.retired") : role === "admin" ? <span class="row wrap"><button onClick={() => setLimited(row)}>{t("scope.set")}</button><Act class="danger" act={retire(row)}>{t("station.retire")}</Act></span> : "" },
      ]} />
    </Page>
  );
}

interface Made { user: User; totp_secret: string | null; totp_uri: string | null; recovery_codes: string[] }
const GIVEN = role === "admin" ? ["viewer", "ranger", "conservation_manager", "admin"] : ["viewer", "ranger"];
const stationsOf = (text: Value) => String(text ?? "").split(/[\s,]+/).filter(Boolean);
export function Users() {
  const [rows, setRows] = useState<User[] | null>(null);
  const [open, setOpen] = useState<User | "new" | null>(null);
  const [made, setMade] = useState<Made | null>(null);
  const load = async () => setRows(await all<User>("/api/v1/users/"));
  useEffect(() => void load(), []);
  const fields: Field[] = [
    ...(open === "new" ? [{ name: "email", label: t("user.email"), kind: "email", isRequired: true } as Field] : []),
    { name: "name", label: t("user.name"), isRequired: true },
    { name: "role", label: t("user.role"), kind: "choice", isRequired: true, options: options("role", GIVEN) },
    { name: "stations", label: t("user.stations"), hint: t("user.stations_hint") },
    ...(open === "new" ? [{ name: "password", label: t("login.password"), hint: t("user.password_hint") } as Field] : []),
  ];
  const save = async (said: Record<string, Value>) => {
    const body = { ...said, stations: stationsOf(said.stations ?? null) };
    if (open === "new") {
      const found = await withFactor(() => post<Made>("/api/v1/users/", body), askCode);
      if (!found) return;
      setMade(found);
    } else if (!await withFactor(() => call("PATCH", `/api/v1/users/${open!.id}/`, body), askCode)) return;
    say(t("form.saved"));
    setOpen(null);
    await load();
  };
  const turn = (row: User) => async () => {
    const what = row.is_active ? "revoke" : "restore";
    if (await confirmed(t(`user.${what}`), <p>{row.name}</p>) === null) return;
    if (await withFactor(() => post(`/api/v1/users/${row.id}/${what}/`), askCode)) await load();
  };
  if (open) return <Page title={t("nav.users")}><Form title={open === "new" ? t("user.new") : open.name} fields={fields} save={save} close={() => setOpen(null)}
    values={open === "new" ? { role: "ranger", stations: "*" } : { ...open, stations: open.stations.join(" ") }} /></Page>;
  return (
    <Page title={t("nav.users")} actions={<button class="main" onClick={() => setOpen("new")}>{t("user.new")}</button>}>
      {made && <section class="sheet secret"><h2>{made.user.name}</h2><p>{t("user.once")}</p>
        {made.totp_uri && <Qr text={made.totp_uri} label={t("user.qr")} />}
        <p><code>{made.totp_secret}</code></p><ul class="codes">{made.recovery_codes.map((each) => <li key={each}><code>{each}</code></li>)}</ul>
        <button onClick={() => setMade(null)}>{t("form.close")}</button></section>}
      <Table rows={rows} label={t("nav.users")} onRow={role === "admin" ? setOpen : undefined} columns={[
        { key: "name", label: t("user.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "email", label: t("user.email"), cell: (row) => row.email, sort: (row) => row.email },
        { key: "role", label: t("user.role"), cell: (row) => t(`role.${row.role}`), sort: (row) => row.role },
        { key: "stations", label: t("user.stations"), cell: (row) => (row.stations.includes("*") ? t("user.all_stations") : row.stations.join(" ") || "–") },
        { key: "factor", label: t("user.factor"), cell: (row) => row.has_totp ? t("user.app", { n: row.recovery_codes_left }) : "–" },
        { key: "login", label: t("user.login"), cell: (row) => <Time at={row.last_login} />, sort: (row) => row.last_login ?? "" },
        { key: "act", label: t("table.acts"), cell: (row) => role === "admin" ? <Act class={row.is_active ? "danger" : ""} act={turn(row)}>{t(row.is_active ? "user.revoke" : "user.restore")}</Act> : t(row.is_active ? "form.yes" : "form.no") },
      ]} />
    </Page>
  );
}

const SCOPES = ["tracking:write", "tracking:read", "animals:read", "alerts:read", "events:read", "observations:read", "collars:read", "zones:read"];
export function Keys() {
  const [rows, setRows] = useState<ApiKey[] | null>(null);
  const [isOpen, setOpen] = useState(false);
  const [made, setMade] = useState<ApiKey | null>(null);
  const load = async () => setRows(await all<ApiKey>("/api/v1/api-keys/"));
  useEffect(() => void load(), []);
  const save = async (said: Record<string, Value>) => {
    const scopes = String(said.scopes ?? "").split(/[\s,]+/).filter(Boolean);
    const found = await withFactor(() => post<ApiKey>("/api/v1/api-keys/", { name: said.name, role: said.role, scopes, stations: stationsOf(said.stations ?? null) }), askCode);
    if (!found) return;
    setMade(found);
    setOpen(false);
    await load();
  };
  const act = (run: () => Promise<ApiKey | undefined>, title: string, row: ApiKey) => async () => {
    if (await confirmed(title, <p>{row.name}</p>) === null) return;
    const found = await withFactor(async () => (await run()) ?? row, askCode);
    if (found?.key) setMade(found);
    await load();
  };
  if (isOpen) return <Page title={t("nav.keys")}><Form title={t("key.new")} save={save} close={() => setOpen(false)} values={{ role: "ranger", scopes: "tracking:write", stations: "*" }} fields={[
    { name: "name", label: t("key.name"), isRequired: true },
    { name: "role", label: t("user.role"), kind: "choice", isRequired: true, options: options("role", ["viewer", "ranger", "conservation_manager", "admin"]) },
    { name: "scopes", label: t("key.scopes"), isRequired: true, hint: SCOPES.join(" ") },
    { name: "stations", label: t("user.stations"), hint: t("user.stations_hint") }]} /></Page>;
  return (
    <Page title={t("nav.keys")} actions={<button class="main" onClick={() => setOpen(true)}>{t("key.new")}</button>}>
      {made?.key && <section class="sheet secret"><h2>{made.name}</h2><p>{t("key.once")}</p><p><code class="large">{made.key}</code></p><button onClick={() => setMade(null)}>{t("form.close")}</button></section>}
      <Table rows={rows} label={t("nav.keys")} columns={[
        { key: "name", label: t("key.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "role", label: t("user.role"), cell: (row) => t(`role.${row.role}`) },
        { key: "scopes", label: t("key.scopes"), cell: (row) => row.scopes.join(" ") },
        { key: "until", label: t("key.until"), cell: (row) => <Time at={row.expires_at} />, sort: (row) => row.expires_at },
        { key: "act", label: t("table.acts"), cell: (row) => row.is_revoked ? t("key.revoked") : <span class="row">
          <Act act={act(() => post<ApiKey>(`/api/v1/api-keys/${row.id}/rotate/`), t("key.rotate"), row)}>{t("key.rotate")}</Act>
          <Act class="danger" act={act(() => call<undefined>("DELETE", `/api/v1/api-keys/${row.id}/`), t("key.revoke"), row)}>{t("key.revoke")}</Act></span> },
      ]} />
    </Page>
  );
}

interface Log { count: number; broken_at: number | null; results: AuditLine[] }
const PAGE = 100;
export function Audit() {
  const [page, setPage] = useState(1);
  const [log, setLog] = useState<Log | null>(null);
  const [people] = useRows<User>("/api/v1/users/");
  const names = new Map((people ?? []).map((each) => [each.id, each.name]));
  useEffect(() => {
    let isAskedFor = true;  // who has gone on meanwhile is not taken back by an answer that comes late
    void get<Log>(`/api/v1/audit/?page_size=${PAGE}&page=${page}`).then((found) => { if (isAskedFor) setLog(found); });
    return () => { isAskedFor = false; };
  }, [page]);
  return (
    <Page title={t("nav.audit")} actions={<>
      <button disabled={page === 1} onClick={() => setPage(page - 1)}>{t("audit.newer")}</button>
      <button disabled={!log || page * PAGE >= log.count} onClick={() => setPage(page + 1)}>{t("audit.older")}</button></>}>
      {log && (log.broken_at === null ? <p class="quiet">✓ {t("audit.whole", { n: log.count })}</p> : <p class="error" role="alert">{t("audit.broken", { n: log.broken_at })}</p>)}
      <Table rows={log ? log.results.map((each) => ({ ...each, id: String(each.seq) })) : null} label={t("nav.audit")} columns={[
        { key: "seq", label: "#", cell: (row) => row.seq, isNumber: true },
        { key: "at", label: t("audit.at"), cell: (row) => <Time at={row.at} /> },
        { key: "actor", label: t("audit.who"), cell: (row) => names.get(row.actor) ?? row.actor },
        { key: "action", label: t("audit.what"), cell: (row) => row.action },
        { key: "detail", label: t("audit.detail"), cell: (row) => row.detail },
      ]} />
    </Page>
  );
}
