/** The cloud's dashboard. */
import { render } from "preact";
import "./style.css";
import { Audit, Keys, Stations, Users } from "./admin";
import { boot, isField, isManager, role } from "./boot";
import { Charts } from "./charts";
import { Corridors } from "./corridors";
import { Conflicts, Models } from "./decide";
import { Home } from "./home";
import { Collars } from "./panels";
import { Patrols } from "./patrols";
import { Phones } from "./phones";
import { Animals, Observations } from "./records";
import { Reports } from "./reports";
import { Sheet } from "./sheet";
import { Shell, begin, type Way } from "./shell";
import { load } from "./strings";
import { Studio } from "./studio";
import { Zones } from "./zones";

if (boot.user) {
  const ways: Way[] = [
    { path: "", label: "nav.map", page: Home, isShown: true },
    { path: "stations", label: "nav.stations", page: Stations, isShown: isManager },
    { path: "animals", label: "nav.animals", page: Animals, isShown: true },
    { path: "collars", label: "nav.collars", page: Collars, isShown: true },
    { path: "observations", label: "nav.observations", page: Observations, isShown: true },
    { path: "rangers", label: "nav.rangers", page: Patrols, isShown: isField },
    { path: "charts", label: "nav.charts", page: Charts, isShown: true },
    { path: "zones", label: "nav.zones", page: Zones, isShown: true },
    { path: "corridors", label: "nav.corridors", page: Corridors, isShown: true },
    { path: "studio", label: "nav.studio", page: Studio, isShown: isManager },
    { path: "conflicts", label: "nav.conflicts", page: Conflicts, isShown: isField },
    { path: "models", label: "nav.models", page: Models, isShown: isField },
    { path: "reports", label: "nav.reports", page: Reports, isShown: isManager || role === "viewer" },
    { path: "sheet", label: "nav.sheet", page: Sheet, isShown: isField },
    { path: "users", label: "nav.users", page: Users, isShown: isManager },
    { path: "phones", label: "nav.phones", page: Phones, isShown: isField },
    { path: "keys", label: "nav.keys", page: Keys, isShown: role === "admin" },
    { path: "audit", label: "nav.audit", page: Audit, isShown: role === "admin" },
  ];
  void load().then(() => {
    begin();
    const root = document.getElementById("app")!;
    root.replaceChildren();
    render(<Shell ways={ways} />, root);
    performance.mark("page-ready");
  });
}
