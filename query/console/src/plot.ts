import uPlot from "uplot"
import {number, tagsText, utc, type Unit} from "./format"
import type {Series} from "./api"
import {h} from "./ui"

export interface Line {label: string; values: (number | null)[]; dashed?: boolean}
export interface Plot {
  root: HTMLElement
  set(times: number[], lines: Line[], from: number, to: number): void
  destroy(): void
}
export interface Options {
  title: string
  unit: Unit
  group?: string // plots of a group share their cursor
  height?: number
  onSelect?: (from: number, to: number) => void
  threshold?: () => number | null
  marks?: () => {time: number; bad: boolean}[]
}

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const color = (i: number): string => css(`--line-${(i % 8) + 1}`)

// legendMost is how many lines a legend may list; of more, the one nearest to the cursor is named.
const legendMost = 12

// plot draws lines over time. Dragging selects a range.
export function plot(o: Options): Plot {
  const root = h("figure", {class: "plot"}, h("figcaption", {}, o.title, o.unit ? h("span", {class: "unit"}, ` ${o.unit}`) : null))
  const box = h("div", {class: "canvas", role: "img", "aria-label": `${o.title} over time`})
  const nearest = h("div", {class: "nearest dim", hidden: true})
  root.append(box, nearest)
  let u: uPlot | null = null
  let shape = ""
  const size = () => ({width: Math.max(200, box.clientWidth || 600), height: o.height ?? 180})
  const observer = new ResizeObserver(() => u?.setSize(size()))
  observer.observe(box)

  const make = (lines: Line[], data: uPlot.AlignedData, from: number, to: number) => {
    u?.destroy()
    let near: number | null = null
    nearest.hidden = lines.length <= legendMost
    nearest.textContent = `${lines.length} lines: point at one for its name`
    const axis = {stroke: css("--dim"), grid: {stroke: css("--grid"), width: 1}, ticks: {stroke: css("--grid"), width: 1}, font: "12px system-ui, sans-serif"}
    u = new uPlot({
      ...size(),
      tzDate: t => (utc() ? uPlot.tzDate(new Date(t * 1e3), "Etc/UTC") : new Date(t * 1e3)),
      scales: {x: {min: from, max: to}, y: {range: (_, low, high) => yRange(low, high, o)}},
      cursor: {drag: {x: true, y: false, setScale: false, dist: 5}, sync: o.group ? {key: o.group} : undefined, focus: {prox: 24}, bind: {dblclick: () => null}},
      focus: {alpha: 0.3},
      legend: {show: lines.length <= legendMost, live: true},
      axes: [{...axis, values: times}, {...axis, size: 66, values: (_, ticks) => amounts(ticks, o.unit)}],
      series: [{value: (_, v, __, at) => (at === null ? "newest" : v === null ? "" : clockOf(v))}, ...lines.map((l, i) => ({
        label: l.label, stroke: color(i), width: 1.5, dash: l.dashed ? [4, 4] : undefined, spanGaps: false, points: {show: true, size: 4, width: 0, fill: color(i), filter: alone},
        value: (u: uPlot, v: number | null, k: number, at: number | null) => number(at === null ? newest(u.data[k]!) : v, o.unit),
      }))],
      hooks: {
        setSelect: [v => {
          if (v.select.width < 5) return
          const a = v.posToVal(v.select.left, "x"), b = v.posToVal(v.select.left + v.select.width, "x")
          v.setSelect({left: 0, top: 0, width: 0, height: 0}, false)
          o.onSelect?.(a, b)
        }],
        setSeries: [(_, i) => { near = i }],
        setCursor: [v => {
          const line = near === null ? undefined : lines[near - 1], at = v.cursor.idx
          if (line && at != null) nearest.textContent = `${line.label}: ${number(v.data[near!]![at] ?? null, o.unit)}`
        }],
        draw: [v => extras(v, o)],
      },
    }, data, box)
  }

  return {
    root,
    set(times, lines, from, to) {
      const data = [times, ...lines.map(l => l.values)] as uPlot.AlignedData
      tell(box, times, lines)
      const now = JSON.stringify(lines.map(l => [l.label, l.dashed]))
      if (u === null || now !== shape) {
        shape = now
        make(lines, data, from, to)
        return
      }
      u.setData(data, false)
      u.batch(() => u!.setScale("x", {min: from, max: to}))
      if (u.cursor.idx == null && u.legend.show) u.setLegend({idxs: data.map(() => null)}, false)
    },
    destroy() {
      observer.disconnect()
      u?.destroy()
    },
  }
}

// tell says in attributes what is drawn, for readers of the page that do not see it.
function tell(box: HTMLElement, times: number[], lines: Line[]): void {
  const known = times.filter((_, i) => lines.some(l => l.values[i] != null))
  const holes = known.slice(1).map((t, i): [number, number] => [known[i]!, t]).filter(([a, b]) => b - a > 1.5 * (times[1]! - times[0]!))
  Object.assign(box.dataset, {lines: lines.length, step: times.length > 1 ? times[1]! - times[0]! : 0, points: known.length, first: known[0] ?? "", last: known.at(-1) ?? "", holes: holes.map(h => h.join("-")).join(" ")})
}

function yRange(low: number | null, high: number | null, o: Options): [number, number] {
  const t = o.threshold?.()
  let a = Math.min(low ?? 0, t ?? Infinity), b = Math.max(high ?? 1, t ?? -Infinity)
  if (!Number.isFinite(a) || !Number.isFinite(b)) { a = 0; b = 1 }
  if (a > 0 && a < b * 0.7) a = 0
  if (a === b) b = a + (Math.abs(a) || 1) * 0.1
  if (o.unit === "%" && b > 90) b = Math.max(b, 100)
  return [a, b + (o.unit === "%" && b === 100 ? 0 : (b - a) * 0.05)]
}

// extras draws the threshold, and the moments at which an alert would have posted.
function extras(u: uPlot, o: Options): void {
  const t = o.threshold?.(), marks = o.marks?.() ?? []
  const {ctx, bbox} = u
  ctx.save()
  ctx.lineWidth = devicePixelRatio
  if (t !== null && t !== undefined) {
    const y = u.valToPos(t, "y", true)
    ctx.strokeStyle = css("--bad")
    ctx.setLineDash([6, 4])
    ctx.beginPath()
    ctx.moveTo(bbox.left, y)
    ctx.lineTo(bbox.left + bbox.width, y)
    ctx.stroke()
    ctx.setLineDash([])
  }
  for (const m of marks) {
    const x = u.valToPos(m.time, "x", true)
    if (x < bbox.left || x > bbox.left + bbox.width) continue
    ctx.fillStyle = css(m.bad ? "--bad" : "--good")
    ctx.beginPath()
    ctx.moveTo(x, bbox.top)
    ctx.lineTo(x - 5 * devicePixelRatio, bbox.top - 9 * devicePixelRatio)
    ctx.lineTo(x + 5 * devicePixelRatio, bbox.top - 9 * devicePixelRatio)
    ctx.fill()
  }
  ctx.restore()
}

function newest(values: ArrayLike<number | null | undefined>): number | null {
  for (let i = values.length - 1; i >= 0; i--) if (values[i] != null) return values[i]!
  return null
}

// alone are the values without a neighbour, which no line shows.
function alone(u: uPlot, series: number): number[] {
  const values = u.data[series]!, list: number[] = []
  for (let i = 0; i < values.length; i++) if (values[i] != null && values[i - 1] == null && values[i + 1] == null) list.push(i)
  return list
}

// amounts labels the axis with as many digits as its ticks need to differ.
function amounts(ticks: number[], unit: Unit): string[] {
  const step = ticks.length > 1 ? Math.abs(ticks[1]! - ticks[0]!) : 0
  if (unit === "B" || unit === "B/s" || step === 0 || step >= 10 || step < 1e-6) return ticks.map(v => number(v, unit))
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (Number.isInteger(step / 10 ** Math.floor(Math.log10(step) + 1e-9)) ? 0 : 1))
  return ticks.map(v => v.toFixed(digits) + (unit === "%" ? " %" : ""))
}

const two = (n: number): string => String(n).padStart(2, "0")

function parts(t: number) {
  const d = new Date(t * 1000)
  return utc()
    ? {y: d.getUTCFullYear(), mo: d.getUTCMonth() + 1, d: d.getUTCDate(), h: d.getUTCHours(), m: d.getUTCMinutes(), s: d.getUTCSeconds()}
    : {y: d.getFullYear(), mo: d.getMonth() + 1, d: d.getDate(), h: d.getHours(), m: d.getMinutes(), s: d.getSeconds()}
}

function clockOf(t: number): string {
  const p = parts(t)
  return `${p.y}-${two(p.mo)}-${two(p.d)} ${two(p.h)}:${two(p.m)}:${two(p.s)}`
}

// times labels the axis: the day where it begins, and at the first label unless that is today.
function times(_: uPlot, ticks: number[]): string[] {
  const step = ticks.length > 1 ? ticks[1]! - ticks[0]! : 60
  const now = parts(Date.now() / 1000), today = `${two(now.mo)}-${two(now.d)}`
  let before = ""
  return ticks.map(t => {
    const p = parts(t), date = `${two(p.mo)}-${two(p.d)}`
    if (step >= 86400) return step >= 86400 * 28 ? `${p.y}-${two(p.mo)}` : date
    const time = step < 60 ? `${two(p.h)}:${two(p.m)}:${two(p.s)}` : `${two(p.h)}:${two(p.m)}`
    const text = date !== before && (date !== today || before !== "") ? `${time}\n${date}` : time
    before = date
    return text
  })
}

// linesOf makes lines of an answer of /range. Each series has the same times.
export function linesOf(series: Series[], name: (s: Series) => string = s => tagsText(s.tags) || "all"): {times: number[]; lines: Line[]} {
  return {times: series[0]?.points.map(p => p[0]) ?? [], lines: series.map(s => ({label: name(s), values: s.points.map(p => p[1])}))}
}
