/** Phones that this home knows: a code to scan, and shutting out one that was lost. */
import { useEffect, useState } from "preact/hooks";
import { all, post, withFactor } from "./api";
import { boot, isManager } from "./boot";
import { useRows } from "./records";
import { t } from "./strings";
import type { User } from "./types";
import { Act, Form, Page, Table, Time, askCode, confirmed, sayError, type Value } from "./ui";

interface Phone { id: string; user_id: string; name: string; enrolled_at: string; used_at: string; revoked_at: string | null }
interface Code { code: string; email: string; link: string; qr: string; expires_in_s: number }

export function Phones() {
  const [rows, load] = useRows<Phone>("/api/v1/phones/");
  const [people, setPeople] = useState<User[]>([]);
  const [isOpen, setOpen] = useState(false);
  const [code, setCode] = useState<Code | null>(null);
  useEffect(() => { if (isManager) void all<User>("/api/v1/users/").then(setPeople, sayError); }, []);
  const names = new Map(people.map((each) => [each.id, each.name]));
  const make = async (said: Record<string, Value>) => {
    const made = await withFactor(() => post<Code>("/api/v1/phones/codes/", { url: location.origin, ...(said.user_id ? { user_id: said.user_id } : {}) }), askCode);
    if (made) { setCode(made); setOpen(false); }
  };
  const revoke = (row: Phone) => async () => {
    if (await confirmed(t("phone.revoke"), <p>{row.name}. {t("phone.revoke_body")}</p>) === null) return;
    if (await withFactor(() => post(`/api/v1/phones/${row.id}/revoke/`), askCode)) await load();
  };
  if (isOpen) return <Page title={t("nav.phones")}><Form title={t("phone.new")} values={{ user_id: boot.user!.id }} save={make} close={() => setOpen(false)}
    fields={[{ name: "user_id", label: t("phone.whose"), kind: "choice", isRequired: true, options: people.filter((each) => each.is_active).map((each) => [each.id, each.name]) }]} /></Page>;
  return (
    <Page title={t("nav.phones")} actions={isManager ? <button class="main" onClick={() => setOpen(true)}>{t("phone.new")}</button> : <Act class="main" act={() => make({})}>{t("phone.new")}</Act>}>
      {code && <section class="sheet secret"><h2>{code.email}</h2><p>{t("phone.scan", { n: Math.round(code.expires_in_s / 60) })}</p>
        {/* drawn by this home, of nothing but squares */}
        <div class="qr" role="img" aria-label={t("phone.qr")} dangerouslySetInnerHTML={{ __html: code.qr }} />
        <p><code class="large">{code.code}</code></p><button onClick={() => { setCode(null); void load(); }}>{t("form.close")}</button></section>}
      <Table rows={rows} label={t("nav.phones")} empty={t("phone.none")} columns={[
        { key: "name", label: t("phone.name"), cell: (row) => row.name, sort: (row) => row.name },
        { key: "whose", label: t("phone.whose"), cell: (row) => names.get(row.user_id) ?? (row.user_id === boot.user?.id ? t("phone.mine") : row.user_id), sort: (row) => names.get(row.user_id) ?? "" },
        { key: "from", label: t("station.enrolled"), cell: (row) => <Time at={row.enrolled_at} />, sort: (row) => row.enrolled_at },
        { key: "used", label: t("animal.seen"), cell: (row) => <Time at={row.used_at} />, sort: (row) => row.used_at },
        { key: "act", label: t("table.acts"), cell: (row) => row.revoked_at ? t("phone.revoked") : <Act class="danger" act={revoke(row)}>{t("phone.revoke")}</Act> },
      ]} />
    </Page>
  );
}
