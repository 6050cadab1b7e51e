import {address, get, orEmpty, passing, persist, statsOf, type Latest, type Params, type Range} from "./api"
import {clock, number, tagsText, unitOf} from "./format"
import {plot, type Line} from "./plot"
import {askRange, picker, rangeParams, windowOf, type Question} from "./range"
import {go} from "./route"
import {button, every, field, fill, h, notice, select} from "./ui"
import type {View} from "./main"

const verbs = ["mean", "min", "max", "sum", "count", "last", "spread", "p50", "p90", "p95", "p99"]
// most is how many lines are drawn. The CSV has all.
const most = 50
const day = 86400

export async function explore({root, route, signal}: View): Promise<void> {
  const params = route.params
  const change = (set: Record<string, string | undefined>) => {
    for (const [k, v] of Object.entries(set)) v === undefined || v === "" ? params.delete(k) : params.set(k, v)
    go(["explore"], params)
  }
  const stats = await statsOf([], signal)
  if (stats.length === 0) return fill(root, h("h1", {}, "Explore"), h("p", {class: "empty"}, "There are no readings yet."))
  const stat = params.get("stat") ?? (stats.includes("cpu_used") ? "cpu_used" : stats[0]!)
  const w = windowOf(params), verb = params.get("verb") ?? "mean", by = (params.get("by") ?? "").split(",").filter(k => k), compare = params.get("compare") ?? ""
  const filters: Params = [...params].filter(([k]) => k.startsWith("f.")).map(([k, v]): [string, string] => [k.slice(2), v])
  const q: Question = {stat, by, verb, filters}

  // What the newest readings have is offered; anything else may be typed.
  const [keys, newest] = await Promise.all([get<string[]>("/tags", [], signal), orEmpty(get<Latest[]>(`/latest/${encodeURIComponent(stat)}`, [["verb", "none"]], signal), [])])
  const values = (key: string) => [...new Set(newest.map(r => r[key]).filter(v => v !== undefined).map(String))].sort().slice(0, 1000)

  const addKey = select([["", "tag…"], ...keys.map((k): [string, string] => [k, k])], "", k => offer(k), "tag to filter by")
  const options = h("datalist", {id: "tag-values"})
  const addValue = h("input", {list: "tag-values", placeholder: "value", "aria-label": "value to filter by"})
  const offer = (k: string) => fill(options, values(k).map(v => h("option", {value: v})))
  const filterBar = h("form", {class: "filters", onsubmit: (e: Event) => {
    e.preventDefault()
    if (!addKey.value) return
    params.append("f." + addKey.value, addValue.value)
    go(["explore"], params)
  }}, filters.map(([k, v], i) => h("span", {class: "chip"}, `${k}:${v || "(none)"}`, button("×", () => {
    const left = filters.filter((_, j) => j !== i)
    for (const [key] of [...params]) if (key.startsWith("f.")) params.delete(key)
    for (const [key, value] of left) params.append("f." + key, value)
    go(["explore"], params)
  }, "quiet"))), addKey, addValue, options, h("button", {}, "Filter"))

  const statChoice = h("input", {list: "stats", value: stat, "aria-label": "stat", onchange: () => change({stat: statChoice.value.trim()})})
  const groupBy = h("details", {class: "by"}, h("summary", {}, by.length ? `by ${by.join(", ")}` : "all in one line"),
    keys.map(k => h("label", {}, h("input", {type: "checkbox", checked: by.includes(k), onchange: (e: Event) =>
      change({by: ((e.target as HTMLInputElement).checked ? [...by, k] : by.filter(x => x !== k)).join(",")})}), k)))

  const says = h("div", {}), chart = plot({title: `${verb} of ${stat}`, unit: verb === "count" ? "" : unitOf(stat), height: 360, onSelect: (a, b) => change({from: String(Math.floor(a)), to: String(Math.ceil(b)), range: undefined})})
  const foot = h("p", {class: "dim"}), copied = h("span", {role: "status", class: "dim"}), series = h("div", {class: "table"})
  chart.root.hidden = true
  signal.addEventListener("abort", () => chart.destroy())
  let answer: Range | null = null
  const copy = (what: string, text: string) => navigator.clipboard.writeText(text).then(() => fill(copied, `${what} copied`), () => fill(copied, text))

  fill(root, h("h1", {}, "Explore"),
    h("div", {class: "bar"}, field("stat", h("span", {}, statChoice, h("datalist", {id: "stats"}, stats.map(s => h("option", {value: s}))))),
      field("value", select(verbs.map(v => [v, v]), verb, v => change({verb: v === "mean" ? undefined : v}))),
      field("lines", groupBy),
      field("beside", select([["", "nothing"], ["1d", "a day before"], ["1w", "a week before"]], compare, v => change({compare: v})))),
    h("div", {class: "bar"}, filterBar), picker(w, change), says, chart.root, foot,
    h("div", {class: "bar"}, button("CSV", () => answer && csv(answer)),
      button("Copy as curl", () => void copy("curl", curl(q, w.from, w.now ? null : w.to, w.back))),
      button("Copy as InfluxQL", () => answer && void copy("InfluxQL", influxQL(q, answer, w.from, w.to))), copied),
    series)

  const load = async () => {
    const now = Date.now() / 1000, to = w.now ? now : w.to, from = w.now ? now - (w.to - w.from) : w.from
    try {
      const shift = compare === "1d" ? day : compare === "1w" ? 7 * day : 0
      const [current, before] = await Promise.all([askRange(q, from, w.now ? to + 1 : to, signal), shift ? askRange(q, from - shift, to - shift, signal).catch((e: Error) => e) : null])
      // The slot that is not over yet has a part of its readings, which is not what it will be.
      if (w.now) for (const s of current.series) while (s.points.length > 1 && s.points.at(-1)![0] + current.step > now) s.points.pop()
      answer = current
      draw(current, before instanceof Error ? null : before, shift, from, to)
      if (before instanceof Error) says.append(notice(`There is nothing beside it: ${before.message}`, "info"))
    } catch (e) {
      if (signal.aborted) return
      fill(says, notice((e as Error).message))
      if (passing(e)) throw e
    }
  }
  const draw = (current: Range, before: Range | null, shift: number, from: number, to: number) => {
    const mean = (points: [number, number | null][]) => { const k = points.map(p => p[1]).filter(v => v !== null); return k.length ? k.reduce((a, b) => a + b, 0) / k.length : -Infinity }
    const drawn = current.series.length > most ? [...current.series].sort((a, b) => mean(b.points) - mean(a.points)).slice(0, most) : current.series
    const label = (tags: Record<string, string>) => tagsText(tags) || stat
    const lines: Line[] = drawn.map(s => ({label: label(s.tags), values: s.points.map(p => p[1])}))
    let times = drawn[0]?.points.map(p => p[0]) ?? []
    if (before?.series.length) {
      // The times of both, since their slots may not be the same.
      const old = before.series.slice(0, most).map(s => ({label: `${label(s.tags)}, ${compare === "1d" ? "a day" : "a week"} before`, points: new Map(s.points.map(([t, v]) => [t + shift, v]))}))
      const known = drawn.map(s => new Map(s.points))
      times = [...new Set([...times, ...old.flatMap(s => [...s.points.keys()])])].sort((a, b) => a - b)
      lines.forEach((l, i) => { l.values = times.map(t => known[i]!.get(t) ?? null) })
      lines.push(...old.map(s => ({label: s.label, values: times.map(t => s.points.get(t) ?? null), dashed: true})))
    }
    fill(says, current.series.length === 0 ? h("p", {class: "empty"}, "Nothing matches in this time.") : current.series.length > most ? notice(`${most} of ${current.series.length} lines are drawn, those with the highest means. The CSV has all.`, "info") : null)
    chart.root.hidden = lines.length === 0
    if (lines.length) chart.set(times, lines, from, to)
    fill(foot, current.series.length ? `A point is the ${verb} over ${number(current.step)} s, of ${current.source.map(s => (s === "raw" ? "single readings" : "aggregates")).join(" and ")}.` : "")
    fill(series, current.series.length > 0 ? h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "line"), ["newest", "mean", "min", "max"].map(t => h("th", {class: "right"}, t)))),
      h("tbody", {}, drawn.map(s => {
        const k = s.points.map(p => p[1]).filter(v => v !== null), u = verb === "count" ? "" : unitOf(stat)
        return h("tr", {}, h("td", {}, label(s.tags)), [k.at(-1), mean(s.points), Math.min(...k), Math.max(...k)].map(v => h("td", {class: "right"}, number(v, u))))
      }))) : null)
  }
  if (w.now) await every(10_000, signal, () => load().catch(() => {}))
  else await persist(signal, load)
}

// csv hands the answer over as a file.
function csv(answer: Range): void {
  const quoted = (v: string) => (/[",\n\r]|^[=+@-]/.test(v) ? `"${(/^[=+@-]/.test(v) ? "'" : "") + v.replaceAll('"', '""')}"` : v)
  const keys = [...new Set(answer.series.flatMap(s => Object.keys(s.tags)))]
  const rows = [["time", ...keys.map(quoted), quoted(answer.stat)].join(",")]
  for (const s of answer.series) for (const [t, v] of s.points) rows.push([new Date(t * 1000).toISOString(), ...keys.map(k => quoted(s.tags[k] ?? "")), v ?? ""].join(","))
  const url = URL.createObjectURL(new Blob([rows.join("\n") + "\n"], {type: "text/csv"}))
  h("a", {href: url, download: `${answer.stat.replace(/[^\w.-]/g, "_")}-${clock(Date.now() / 1000).replace(/[^\d]/g, "")}.csv`}).click()
  setTimeout(() => URL.revokeObjectURL(url), 1000)
}

function curl(q: Question, from: number, to: number | null, back: string): string {
  const params = rangeParams(q, from, to ?? 0).filter(([k]) => to !== null || (k !== "start" && k !== "stop"))
  if (to === null) params.unshift(["start", back])
  const url = location.origin + address(`/range/${encodeURIComponent(q.stat)}`, params)
  return `curl -H "X-AUTH-TOKEN: $TOKEN" '${url.replaceAll("'", "%27")}'` // one argument, whatever names hold
}

// influxQL is the same question to InfluxDB: of single readings where the answer is of them, and
// otherwise of the windows, whose fields hold what is exact over their readings.
function influxQL(q: Question, answer: Range, from: number, to: number): string {
  const escape = (s: string, quote: string) => quote + s.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll(quote, "\\" + quote) + quote
  const name = (s: string) => escape(s, '"'), text = (s: string) => escape(s, "'")
  const raw = answer.source.includes("raw"), verb = q.verb ?? "mean", percentile = /^p(\d+)$/.exec(verb), field = (suffix: string) => name(`${q.stat}:${suffix}`)
  const windows: Record<string, string> = {
    mean: `sum(${field("sum")}) / sum(${field("count")})`, sum: `sum(${field("sum")})`, count: `sum(${field("count")})`, min: `min(${field("min")})`, max: `max(${field("max")})`,
    last: `last(${field("last")})`, spread: `max(${field("max")}) - min(${field("min")})`,
  }
  const call = raw ? (percentile ? `percentile(${name(q.stat)}, ${percentile[1]})` : `${verb}(${name(q.stat)})`) : windows[verb] ?? `${verb}(${name(q.stat)})`
  const byKey = new Map<string, string[]>()
  for (const [k, v] of q.filters ?? []) byKey.set(k, [...(byKey.get(k) ?? []), v])
  const where = [...byKey].map(([k, vs]) => ` AND (${vs.map(v => `${name(k)} = ${text(v)}`).join(" OR ")})`).join("")
  return `SELECT ${call} FROM "statistics".${raw ? `"one_day".${name(q.stat)}` : '"one_week"."aggregate"'} WHERE time >= ${Math.floor(from)}s AND time < ${Math.ceil(to)}s${where} GROUP BY time(${answer.step}s)${(q.by ?? []).map(k => ", " + name(k)).join("")} fill(null)`
}
