/** What a station is told of: everything, or an area, some animals, or both. */
import { useEffect, useState } from "preact/hooks";
import { call, get, withFactor } from "./api";
import { loadHealth } from "./live";
import { Canvas, Corners, useOutline } from "./outline";
import { useRows } from "./records";
import { t } from "./strings";
import type { Animal, Scope, Station } from "./types";
import { Form, Page, askCode, say } from "./ui";

function Editor({ station, scope, close }: { station: Station; scope: Scope; close: () => void }) {
  const outline = useOutline(scope.area);
  const [animals] = useRows<Animal>("/api/v1/animals/?ordering=name");
  const [chosen, setChosen] = useState(new Set(scope.animals ?? []));
  const choose = (id: string, isIn: boolean) => {
    const next = new Set(chosen);
    if (isIn) next.add(id); else next.delete(id);
    setChosen(next);
  };
  const save = async () => {
    if (outline.isSimple && outline.ring.length && !outline.geometry) throw new Error(t("zone.too_few"));
    const area = outline.isSimple ? outline.geometry : scope.area;
    const done = await withFactor(() => call("PUT", `/api/v1/stations/${station.id}/scope`, { area, animals: chosen.size ? [...chosen].sort() : null }), askCode);
    if (!done) return;
    say(t("form.saved"));
    await loadHealth();
    close();
  };
  return (
    <div class="editor">
      <Canvas outline={outline} />
      <Form title={t("scope.of", { name: station.name })} fields={[]} values={{}} save={save} close={close}>
        <p class="wide">{t("scope.body")}</p>
        <Corners outline={outline} />
        <fieldset class="wide"><legend>{t("scope.animals")}</legend>
          {(animals ?? []).map((each) => <label key={each.id} class="yes"><input type="checkbox" checked={chosen.has(each.id)} onChange={(event) => choose(each.id, event.currentTarget.checked)} /><span>{each.name}</span></label>)}
        </fieldset>
      </Form>
    </div>
  );
}

export function StationScope({ station, close }: { station: Station; close: () => void }) {
  const [scope, setScope] = useState<Scope | null>(null);
  const [error, setError] = useState("");
  useEffect(() => void get<Scope>(`/api/v1/stations/${station.id}/scope`).then(setScope, (fault: Error) => setError(fault.message)), [station.id]);
  return <Page title={t("nav.stations")}>{error ? <p role="alert" class="error">{error}</p> : scope && <Editor station={station} scope={scope} close={close} />}</Page>;
}
