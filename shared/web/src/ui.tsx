/** Pieces that every page is made of: times, tables that sort, forms, questions, what went wrong. */
import type { ComponentChildren, TargetedSubmitEvent, ButtonHTMLAttributes } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { Cell, homeNow, use } from "./state";
import { t } from "./strings";
import { local, span, utc } from "./words";

export function Time({ at, ago }: { at: string | null | undefined; ago?: boolean }) {
  if (!at) return <span>–</span>;
  return <time dateTime={at} title={utc(at)}>{ago ? span(homeNow() - Date.parse(at)) : local(at)}</time>;
}

const MARKS = { critical: "▲", high: "◆", medium: "●", low: "○" } as const;
export function Severity({ of }: { of: keyof typeof MARKS }) {
  return <span class={`severity ${of}`}><span aria-hidden="true">{MARKS[of]}</span> {t(`severity.${of}`)}</span>;
}

// --- messages
const said = new Cell<{ text: string; isError: boolean } | null>(null);
let fading: ReturnType<typeof setTimeout> | undefined;
export function say(text: string, isError = false): void {
  said.set({ text, isError });
  clearTimeout(fading);
  fading = setTimeout(() => said.set(null), isError ? 12_000 : 4000);
}
export function sayError(error: unknown): void {
  say(error instanceof ApiError ? error.message : String(error), true);
}
export function Toast() {
  const shown = use(said);
  return <div class={`toast ${shown?.isError ? "error" : ""}`} role="status" hidden={!shown}>{shown?.text}</div>;
}

// --- questions
interface Question { title: string; body?: ComponentChildren; field?: string; value?: string; isLong?: boolean; answer: (text: string | null) => void }
const question = new Cell<Question | null>(null);
export function askText(title: string, field: string, options: { value?: string; isLong?: boolean; body?: ComponentChildren } = {}): Promise<string | null> {
  return new Promise((answer) => question.set({ title, field, ...options, answer }));
}
export const confirmed = (title: string, body?: ComponentChildren) =>
  new Promise<string | null>((answer) => question.set({ title, body, answer }));
export const askCode = () => askText(t("factor.title"), t("login.code"), { body: <p>{t("factor.body")}</p> });

export function Asked() {
  const open = use(question);
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => { if (open && !dialog.current?.open) dialog.current?.showModal(); }, [open]);
  if (!open) return null;
  const close = (text: string | null) => { dialog.current?.close(); question.set(null); open.answer(text); };
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    close(String(new FormData(event.currentTarget).get("text") ?? ""));
  };
  return (
    <dialog ref={dialog} aria-labelledby="asked" onCancel={(event) => { event.preventDefault(); close(null); }}>
      <form onSubmit={submit}>
        <h2 id="asked">{open.title}</h2>
        {open.body}
        {open.field && (
          <label>{open.field}
            {open.isLong ? <textarea name="text" rows={4} autofocus defaultValue={open.value ?? ""} />
              : <input name="text" defaultValue={open.value ?? ""} autocomplete="one-time-code" autofocus />}
          </label>
        )}
        <div class="row"><button class="main">{t("form.ok")}</button><button type="button" onClick={() => close(null)}>{t("form.cancel")}</button></div>
      </form>
    </dialog>
  );
}

/** A button that works as long as what it does takes, and tells what went wrong. */
export function Act({ act, children, ...rest }: { act: () => Promise<unknown>; children: ComponentChildren } & Omit<ButtonHTMLAttributes<HTMLButtonElement>, "onClick">) {
  const [isBusy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try { await act(); } catch (error) { sayError(error); } finally { setBusy(false); }
  };
  return <button type="button" {...rest} disabled={isBusy} aria-busy={isBusy} onClick={() => void run()}>{children}</button>;
}

// --- tables
export interface Column<T> { key: string; label: string; cell: (row: T) => ComponentChildren; sort?: (row: T) => string | number; isNumber?: boolean }
export function Table<T extends { id?: string }>({ rows, columns, empty, label, onRow, start }: {
  rows: T[] | null; columns: Column<T>[]; empty?: string; label: string; onRow?: (row: T) => void; start?: string;
}) {
  const [by, setBy] = useState({ key: start ?? "", isDown: false });
  if (rows === null) return <p class="quiet" aria-busy="true">{t("page.loading")}</p>;
  const sorting = columns.find((each) => each.key === by.key)?.sort;
  const shown = sorting ? [...rows].sort((a, b) => {
    const [x, y] = [sorting(a), sorting(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (by.isDown ? -1 : 1);
  }) : rows;
  if (shown.length === 0) return <p class="quiet">{empty ?? t("table.empty")}</p>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table class="rows" role="table">
        <thead role="rowgroup"><tr role="row">{columns.map((each) => (
          <th key={each.key} class={[each.isNumber && "number", !each.sort && "still"].filter(Boolean).join(" ")} role="columnheader" scope="col" aria-sort={by.key === each.key ? (by.isDown ? "descending" : "ascending") : undefined}>
            {each.sort ? <button class="sort" onClick={() => setBy({ key: each.key, isDown: by.key === each.key && !by.isDown })}>
              {each.label}{by.key === each.key ? (by.isDown ? " ↓" : " ↑") : ""}</button> : each.label}
          </th>))}</tr></thead>
        <tbody role="rowgroup">
          {shown.map((row, n) => (
            <tr key={row.id ?? n} role="row">{columns.map((each, m) => (
              <td key={each.key} role="cell" class={each.isNumber ? "number" : ""} data-label={each.label}>
                <div class="cell">{m === 0 && onRow ? <button class="link" onClick={() => onRow(row)}>{each.cell(row)}</button> : each.cell(row)}</div>
              </td>))}</tr>))}
        </tbody>
      </table>
    </div>
  );
}

// --- forms
export type Value = string | number | boolean | null;
export interface Field {
  name: string; label: string; kind?: "text" | "number" | "long" | "time" | "choice" | "yes" | "email"; isRequired?: boolean;
  options?: [string, string][]; hint?: string; min?: number; max?: number;
}
// What stands in a form at first is only its default: the page is drawn anew as the herd moves, and what a person has
// typed must outlive that.
/** `datetime-local` speaks of this browser's zone; the home is told the instant. */
const toLocal = (instant: string) => {
  const at = new Date(instant);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};
export function Form({ title, fields, values, save, close, children }: {
  title: string; fields: Field[]; values: Record<string, Value | undefined>;
  save: (values: Record<string, Value>) => Promise<unknown>; close: () => void; children?: ComponentChildren;
}) {
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const said: Record<string, Value> = {};
    for (const field of fields) {
      const raw = String(data.get(field.name) ?? "").trim();
      if (field.kind === "yes") said[field.name] = data.get(field.name) !== null;
      else if (field.kind === "number") said[field.name] = raw === "" ? null : Number(raw);
      else if (field.kind === "time") said[field.name] = raw === "" ? null : new Date(raw).toISOString();
      else said[field.name] = raw === "" && !field.isRequired ? null : raw;
    }
    setBusy(true);
    setError("");
    try { await save(said); } catch (fault) { setError(fault instanceof Error ? fault.message : String(fault)); } finally { setBusy(false); }
  };
  return (
    <form class="sheet" onSubmit={(event) => void submit(event)}>
      <h2 ref={heading} tabIndex={-1}>{title}</h2>
      {error && <p role="alert" class="error">{error}</p>}
      <div class="fields">
        {fields.map((field) => {
          const value = values[field.name];
          const common = { name: field.name, required: field.isRequired };
          return (
            <label key={field.name} class={field.kind === "yes" ? "yes" : field.kind === "long" ? "wide" : ""}>
              <span>{field.label}{field.isRequired ? " *" : ""}</span>
              {field.kind === "choice" ? (
                <select {...common}>
                  {!field.isRequired && <option value="">–</option>}
                  {field.options?.map(([key, label]) => <option key={key} value={key} selected={key === value}>{label}</option>)}
                </select>
              ) : field.kind === "long" ? <textarea {...common} rows={4} defaultValue={String(value ?? "")} />
                : field.kind === "yes" ? <input {...common} type="checkbox" defaultChecked={value === true} />
                : field.kind === "number" ? <input {...common} type="number" step="any" min={field.min} max={field.max} defaultValue={value === null || value === undefined ? "" : String(value)} />
                : field.kind === "time" ? <input {...common} type="datetime-local" defaultValue={value ? toLocal(String(value)) : ""} />
                : field.kind === "email" ? <input {...common} type="email" defaultValue={String(value ?? "")} />
                : <input {...common} defaultValue={String(value ?? "")} />}
              {field.hint && <small>{field.hint}</small>}
            </label>
          );
        })}
      </div>
      {children}
      <div class="row"><button class="main" disabled={isBusy}>{t("form.save")}</button><button type="button" onClick={close}>{t("form.cancel")}</button></div>
    </form>
  );
}
export const options = (area: string, values: string[]): [string, string][] => values.map((each) => [each, t(`${area}.${each}`)]);
export function Page({ title, children, actions }: { title: string; children: ComponentChildren; actions?: ComponentChildren }) {
  return <section class="page"><header class="row wrap"><h1>{title}</h1>{actions && <div class="row wrap actions">{actions}</div>}</header>{children}</section>;
}
