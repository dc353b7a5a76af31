/** What the home wrote into the page: who it is, who looks at it, in which language. */
export type Role = "admin" | "conservation_manager" | "ranger" | "viewer";
export interface Boot {
  home: "station" | "cloud";
  name: string;
  version: string;
  lang: "en" | "sw" | "fr";
  maps: string[];
  user: { id: string; role: Role } | null;
}
const block = document.getElementById("boot");
export const boot: Boot = JSON.parse(block?.textContent ?? "null");
export const role: Role = boot.user?.role ?? "viewer";
export const isField = role !== "viewer";
export const isManager = role === "admin" || role === "conservation_manager";
/** Who may write animals, collars and deployments here: rangers only at a station. */
export const mayRecord = isManager || (role === "ranger" && boot.home === "station");

/** Remember a choice of this browser, so that the next page comes as it is wanted. */
export function keep(name: string, value: string): void {
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=strict`;
}
