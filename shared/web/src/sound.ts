/** Rings until somebody has acknowledged: two tones every few seconds. A browser lets a page sound once it was touched. */
import { Cell, alerts } from "./state";

const KEY = "outpost_sound";
const EVERY_MS = 4000;
export const isSoundOn = new Cell(localStorage.getItem(KEY) !== "off");
/** How often it has rung; tests and the wall screen's lamp read it. */
export const rings = new Cell(0);
let context: AudioContext | null = null;

export function setSound(isOn: boolean): void {
  localStorage.setItem(KEY, isOn ? "on" : "off");
  isSoundOn.set(isOn);
}
const ringing = () => (alerts.value ?? []).some((each) => each.status === "active" && !each.metadata.is_late);

function tone(at: number, hertz: number): void {
  if (!context) return;
  const oscillator = context.createOscillator();
  const gain = context.createGain();
  oscillator.frequency.value = hertz;
  gain.gain.setValueAtTime(0.0001, at);
  gain.gain.exponentialRampToValueAtTime(0.25, at + 0.02);
  gain.gain.exponentialRampToValueAtTime(0.0001, at + 0.35);
  oscillator.connect(gain).connect(context.destination);
  oscillator.start(at);
  oscillator.stop(at + 0.4);
}
function ring(): void {
  if (!isSoundOn.value || !ringing()) return;
  rings.set(rings.value + 1);
  document.documentElement.dataset.rings = String(rings.value);
  if (!context || context.state !== "running") return;
  tone(context.currentTime, 880);
  tone(context.currentTime + 0.4, 660);
}
export function startSound(): void {
  const touched = () => { context ??= new AudioContext(); void context.resume(); };
  addEventListener("pointerdown", touched);
  addEventListener("keydown", touched);
  setInterval(ring, EVERY_MS);
  let before = false;
  alerts.listen(() => {
    if (ringing() && !before) ring();
    before = ringing();
  });
}
