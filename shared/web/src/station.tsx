/** The station's page. */
import { render } from "preact";
import "./style.css";
import { boot, isField } from "./boot";
import { Charts } from "./charts";
import { Corridors } from "./corridors";
import { Conflicts, Models } from "./decide";
import { Home } from "./home";
import { Collars, System } from "./panels";
import { Patrols } from "./patrols";
import { Phones } from "./phones";
import { Animals, Observations } from "./records";
import { Sheet } from "./sheet";
import { Shell, begin, type Way } from "./shell";
import { load } from "./strings";
import { Zones } from "./zones";

if (boot.user) {
  const ways: Way[] = [
    { path: "", label: "nav.map", page: Home, isShown: true },
    { path: "collars", label: "nav.collars", page: Collars, isShown: true },
    { path: "animals", label: "nav.animals", page: Animals, isShown: true },
    { path: "observations", label: "nav.observations", page: Observations, isShown: true },
    { path: "rangers", label: "nav.rangers", page: Patrols, isShown: isField },
    { path: "charts", label: "nav.charts", page: Charts, isShown: true },
    { path: "zones", label: "nav.zones", page: Zones, isShown: true },
    { path: "corridors", label: "nav.corridors", page: Corridors, isShown: true },
    { path: "conflicts", label: "nav.conflicts", page: Conflicts, isShown: isField },
    { path: "models", label: "nav.models", page: Models, isShown: isField },
    { path: "sheet", label: "nav.sheet", page: Sheet, isShown: isField },
    { path: "phones", label: "nav.phones", page: Phones, isShown: isField },
    { path: "system", label: "nav.system", page: System, isShown: isField },
  ];
  void load().then(() => {
    begin();
    const root = document.getElementById("app")!;
    root.replaceChildren();
    render(<Shell ways={ways} />, root);
    performance.mark("page-ready");
  });
}
