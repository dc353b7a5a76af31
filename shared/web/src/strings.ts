/** The words of the page, in the language that the home chose; the others are not loaded. */
import { boot } from "./boot";

export type Words = Record<string, string>;
const files = import.meta.glob<Words>("../strings/*.json", { import: "default" });
let words: Words = {};

export async function load(): Promise<void> {
  const file = files[`../strings/${boot.lang}.json`] ?? files["../strings/en.json"];
  words = file ? await file() : {};
}

/** Return the words of a key; `{name}` in them is what `values` says. */
export function t(key: string, values: Record<string, string | number> = {}): string {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** Return the words of a value of the API, or the value itself where it is not one of ours. */
export function word(area: string, value: string | null | undefined): string {
  if (value === null || value === undefined || value === "") return "–";
  return words[`${area}.${value}`] ?? value;
}

/** By which words a value of a sentence is said, where it is a word itself. */
const AREAS: Record<string, string> = { kind: "zone_type", risk: "risk", clock: "clock" };

/** Return a sentence of the home in this page's language; what is none of its own stays as it was written. */
export function told(said: { code: string; values: Record<string, string> } | null | undefined, otherwise: string): string {
  if (!said || !words[said.code]) return otherwise;
  const values = Object.entries(said.values).map(([name, value]) => [name, AREAS[name] ? word(AREAS[name], value) : value]);
  return t(said.code, Object.fromEntries(values) as Record<string, string>);
}
