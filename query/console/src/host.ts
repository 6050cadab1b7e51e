import {get, isHub, passing, persist, statsOf, type Edges, type Params, type Range, type Relay} from "./api"
import {ago, number, span, tagsText, unitOf} from "./format"
import {listen, type Reading} from "./live"
import {linesOf, plot, type Plot} from "./plot"
import {askRange, picker, windowOf, type Window} from "./range"
import {go} from "./route"
import {button, every, fill, h, notice} from "./ui"
import type {View} from "./main"

export async function host({root, route, signal}: View): Promise<void> {
  const id = route.path[1] ?? "", params = route.params, edge = params.get("edge") ?? ""
  // At a hub the same id may be at several edges, and here.
  const hub = edge !== "" || await isHub()
  const of: Params = hub ? [["host", id], ["edge", edge]] : [["host", id]]
  const w = windowOf(params)
  const change = (set: Record<string, string | undefined>) => {
    for (const [k, v] of Object.entries(set)) v === undefined ? params.delete(k) : params.set(k, v)
    go(["host", id], params)
  }
  const facts = h("span", {class: "summary", role: "status"}), live = h("span", {class: "live"}), charts = h("div", {class: "charts"}), says = h("div", {}), grain = h("span", {class: "summary"})
  fill(root, h("h1", {}, edge ? h("span", {class: "dim"}, edge, "/") : null, id), h("div", {class: "bar"}, picker(w, change), live,
    button("Explore", () => {
      const shown = ["range", "from", "to"].flatMap(k => (params.has(k) ? [[k, params.get(k)!]] : []))
      go(["explore"], new URLSearchParams([["stat", "cpu_used"], ...of.map(([k, v]) => ["f." + k, v]), ...shown]))
    }), h("span", {class: "live"}, facts, grain)), says, charts)

  const tell = (r: Relay | undefined, link = "") => {
    fill(facts, link ? [h("span", {class: "dot silent"}), link] : r ? [h("span", {class: `dot ${r.connected ? "ok" : "silent"}`}), r.connected ? "connected" : "silent",
      r.last_seen ? `, last reading ${span(ago(r.last_seen))} ago` : "", r.rejected ? `, ${number(r.rejected)} readings rejected` : "",
      r.spool?.waiting_records ? `, ${number(r.spool.waiting_records)} records wait in its spool` : "", r.spool?.dropped_readings ? h("span", {class: "warn"}, `, its spool had no room for ${number(r.spool.dropped_readings)} readings`) : ""] : "This host is not known; what InfluxDB holds of it is shown")
  }
  // What an edge hands over late is not live: while it does, and shortly after, it is asked for again.
  let stale = false, missing = 0
  void every(5000, signal, async () => {
    try {
      if (edge) {
        const at = (await get<Edges>("/edges", [], signal)).edges?.find(e => e.name === edge)
        if (at?.state !== "connected" || at.lacks > 100) missing = 3
        else if (missing > 0) missing--
        if (at?.state === "connected" && missing > 0) stale = true
        if (!at) return tell(undefined, `There is no edge ${edge}; what InfluxDB holds of this host is shown`)
        if (at.state !== "connected") return tell(undefined, at.state === "silent" ? `edge ${edge} is silent for ${span(ago(at.since))}: what comes after waits there` : `edge ${edge} ${at.state === "off" ? "is off" : "has not connected yet"}`)
      }
      tell((await get<Relay[]>("/relays", edge ? [["edge", edge]] : [], signal)).find(r => r.id === id))
    } catch { /* what follows says why */ }
  })
  const [own, all, keys] = await Promise.all([statsOf(of, signal), statsOf([], signal), get<string[]>("/tags", [], signal)])
  const stats = own.length ? own : all // those of a host that is silent for long are not in memory
  const by = keys.filter(k => !of.some(f => f[0] === k)).slice(0, 8)
  const shown = stats.sort((a, b) => order(a) - order(b) || (a < b ? -1 : 1))
  if (shown.length === 0) return fill(charts, h("p", {class: "empty"}, "There is no stat of this host."))

  const drawn = shown.map(stat => new Chart(stat, of, by, w, (from, to) => change({from: String(Math.floor(from)), to: String(Math.ceil(to)), range: undefined})))
  fill(charts, drawn.map(c => c.plot.root))
  signal.addEventListener("abort", () => drawn.forEach(c => c.plot.destroy()))
  const load = async () => {
    const failed = (await Promise.allSettled(drawn.map(c => c.load(signal)))).find(r => r.status === "rejected")
    if (signal.aborted) return
    if (drawn[0]?.step) fill(grain, `, a point is the mean over ${span(drawn[0].step)}`)
    fill(says, failed ? notice((failed.reason as Error).message) : drawn.every(c => c.empty) ? h("p", {class: "empty"}, "There are no readings of this host in this time.") : null)
    if (failed && passing(failed.reason)) throw failed.reason
  }
  await persist(signal, load)
  if (!w.now || signal.aborted) return
  const moving = new Map(drawn.map(c => [c.stat, c]))
  void listen("/live", of, {
    readings(_, seconds, readings) {
      for (const r of readings) moving.get(r.stat)?.add(seconds, r)
      for (const c of drawn) c.draw()
    },
    lost() { stale = true },
    state: on => fill(live, h("span", {class: `dot ${on ? "ok" : "silent"}`}), on ? "live" : "waiting for the server"),
  }, signal)
  await every(1000, signal, async () => {
    try {
      if (stale) await load()
      stale = false
      for (const c of drawn) await c.tick(signal)
    } catch (e) {
      if (!signal.aborted && !passing(e)) throw e // otherwise the next second asks again
    }
  })
}

const first = ["cpu_used", "ram_used", "disk_used", "load_1", "net_in", "net_out", "swap_used"]
const order = (stat: string): number => (first.indexOf(stat) + first.length + 1) % (first.length + 1)

// Chart is a stat of a host. What was asked for goes on with live readings: a slot that began while
// they came is exact from them alone; the one that had begun before is asked for again.
class Chart {
  readonly plot: Plot
  private answer: Range | null = null
  private slots = new Map<string, Map<number, {sum: number; n: number}>>() // by series
  private exactFrom = Infinity // from this slot on, live readings are all there are
  private again = false // the slot before has to be asked for again

  constructor(readonly stat: string, private of: Params, private by: string[], private w: Window, onSelect: (from: number, to: number) => void) {
    this.plot = plot({title: stat, unit: unitOf(stat), group: "host", onSelect})
  }

  get step(): number { return this.answer?.step ?? 0 }
  get empty(): boolean { return (this.answer?.series.length ?? 0) === 0 }

  async load(signal: AbortSignal): Promise<void> {
    const asked = Date.now() / 1000
    const w = this.w.now ? {from: asked - (this.w.to - this.w.from), to: asked} : this.w
    this.answer = await askRange({stat: this.stat, by: this.by, filters: this.of}, w.from, this.w.now ? asked + 1 : w.to, signal)
    this.exactFrom = (Math.floor(asked / this.answer.step) + 1) * this.answer.step
    // Live readings that came while it was asked are of later slots, and stay.
    for (const slots of this.slots.values()) for (const t of slots.keys()) if (t < this.exactFrom) slots.delete(t)
    this.again = true
    this.draw()
  }

  add(seconds: number, r: Reading): void {
    if (!this.answer) return
    const key = tagsText(r.tags, this.of.map(f => f[0])), slot = Math.floor(seconds / this.answer.step) * this.answer.step
    let series = this.slots.get(key)
    if (!series) this.slots.set(key, (series = new Map()))
    const s = series.get(slot) ?? {sum: 0, n: 0}
    series.set(slot, {sum: s.sum + r.value, n: s.n + 1})
  }

  // tick asks again for the slot that had begun before live readings came, once it is over, and moves
  // the window.
  async tick(signal: AbortSignal): Promise<void> {
    if (!this.answer) return
    const {step} = this.answer, begun = this.exactFrom - step
    if (this.again && Date.now() / 1000 > this.exactFrom + 2) {
      const answer = await askRange({stat: this.stat, by: this.by, filters: this.of, step}, begun, this.exactFrom, signal)
      for (const s of answer.series) {
        const old = this.answer.series.find(x => tagsText(x.tags) === tagsText(s.tags))
        const at = old?.points.find(q => q[0] === begun), now = s.points.find(q => q[0] === begun)
        if (at && now) at[1] = now[1]
      }
      this.again = false
    }
    this.draw()
  }

  draw(): void {
    if (!this.answer) return
    const {step} = this.answer
    const to = this.w.now ? Date.now() / 1000 : this.w.to, from = this.w.now ? to - (this.w.to - this.w.from) : this.w.from
    for (const slots of this.slots.values()) for (const t of slots.keys()) if (t < from - step) slots.delete(t) // it is not drawn again
    const all = new Map<string, Map<number, number | null>>()
    for (const s of this.answer.series) all.set(tagsText(s.tags, this.of.map(f => f[0])), new Map(s.points))
    for (const [key, slots] of this.slots) {
      const known = all.get(key) ?? new Map<number, number | null>()
      all.set(key, known)
      for (const [t, {sum, n}] of slots) if (t >= this.exactFrom || (known.get(t) ?? null) === null) known.set(t, sum / n)
    }
    const times: number[] = []
    for (let t = Math.floor(from / step) * step; t <= to; t += step) times.push(t)
    const series = [...all].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([key, known]) => ({tags: {series: key}, points: times.map((t): [number, number | null] => [t, known.get(t) ?? null])}))
    const {lines} = linesOf(series, s => s.tags.series || this.stat)
    this.plot.root.hidden = lines.length === 0
    if (lines.length > 0) this.plot.set(times, lines, from, to)
  }
}
