/** Times, ages and distances as people read them. */
import { t } from "./strings";
import { boot } from "./boot";

const locale = { en: "en-GB", sw: "sw-KE", fr: "fr-FR" }[boot?.lang ?? "en"];
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(locale, { day: "2-digit", month: "short" });

export function span(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 1) return t("span.now");
  if (minutes < 60) return t("span.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return t("span.hours", { n: hours });
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 10 ? t("span.days_hours", { n: days, h: hours % 24 }) : t("span.days", { n: days });
}
export function local(instant: string | null | undefined): string {
  if (!instant) return "–";
  const at = new Date(instant);
  const time = clock.format(at);
  return at.toDateString() === new Date().toDateString() ? time : `${day.format(at)} ${time}`;
}
export const utc = (instant: string | null | undefined) => (instant ? `${instant.slice(0, 16).replace("T", " ")} UTC` : "");
export function distance(metres: number): string {
  return metres < 1000 ? `${Math.round(metres)} m` : `${(metres / 1000).toFixed(metres < 10_000 ? 1 : 0)} km`;
}
export function place(lat: number | null, lon: number | null, digits = 5): string {
  return lat === null || lon === null ? "–" : `${lat.toFixed(digits)}, ${lon.toFixed(digits)}`;
}
export const cellSize = (degrees: number) => t("precision.cell", { size: distance(degrees * 111_320) });
/** A day of the calendar, or the day of an instant. */
export const dayOf = (text: string) => day.format(new Date(text.length === 10 ? `${text}T12:00` : text));
export function bytes(n: number): string {
  return n < 1000 ? `${Math.round(n)} B` : n < 1e6 ? `${(n / 1e3).toFixed(n < 1e4 ? 1 : 0)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB` : `${(n / 1e9).toFixed(1)} GB`;
}
