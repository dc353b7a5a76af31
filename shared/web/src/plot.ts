/** The engine of charts: bars that stand on each other, or a line; colours come from the page's own. */
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Series { name: string; colour: string; values: (number | null)[] }
export interface Drawing {
  isLine: boolean; x: number[]; series: Series[]; most?: number;
  /** what stands below the chart at a place of `x`, and beside it at a value */
  below: (x: number) => string; beside: (value: number) => string;
}
const HEIGHT = 220;

/** Bars are drawn from the tallest sum down, so that what is drawn last stands at the foot. */
function stacked(series: Series[], length: number): (number | null)[][] {
  const sums = new Array<number>(length).fill(0);
  return series.map((each) => each.values.map((value, n) => (value === null ? null : (sums[n] = sums[n]! + value)))).reverse();
}

export function plot(box: HTMLElement, drawing: Drawing): { size: (width: number) => void; remove: () => void } {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim() || "#888";
  const axis = { stroke: of("--quiet"), grid: { stroke: of("--line"), width: 1 }, ticks: { stroke: of("--line"), width: 1 } };
  const columns = drawing.isLine ? drawing.series.map((each) => each.values) : stacked(drawing.series, drawing.x.length);
  const named = drawing.isLine ? drawing.series : [...drawing.series].reverse();
  const paths = drawing.isLine ? undefined : uPlot.paths.bars!({ size: [0.7, 60] });
  const made = new uPlot({
    width: Math.max(box.clientWidth, 200), height: HEIGHT, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
    scales: {
      x: { time: false, range: (_, low, high) => (drawing.isLine ? [low, high === low ? low + 1 : high] : [low - 0.5, high + 0.5]) },
      y: { range: (_, _low, high) => [0, drawing.most ?? (high > 0 ? high * 1.05 : 1)] },
    },
    axes: [
      { ...axis, space: drawing.isLine ? 96 : 64, incrs: drawing.isLine ? undefined : [1, 2, 3, 4, 6, 7, 12, 14, 28], values: (_, splits) => splits.map((x) => (drawing.isLine || Number.isInteger(x) ? drawing.below(x) : "")) },
      { ...axis, size: 64, values: (_, splits) => splits.map(drawing.beside) },
    ],
    series: [{}, ...named.map((each): uPlot.Series => ({
      stroke: of(each.colour), fill: drawing.isLine ? undefined : of(each.colour), width: drawing.isLine ? 2 : 0, points: { show: drawing.isLine && drawing.x.length < 60 },
      spanGaps: true, ...(paths ? { paths } : {}),
    }))],
  } as uPlot.Options, [drawing.x, ...columns] as uPlot.AlignedData, box);
  return { size: (width) => made.setSize({ width: Math.max(width, 200), height: HEIGHT }), remove: () => made.destroy() };
}
