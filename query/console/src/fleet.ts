import {get, type Edge, type Edges, type Latest, type Relay, type Tags} from "./api"
import {moment, placed, type Unit} from "./format"
import {askRange} from "./range"
import {sleep} from "./ui"

// Figures of a host. Stats of several disks or interfaces become one: the fullest disk, all traffic.
export interface Figure {key: string; title: string; stats: string[]; unit: Unit; of: "last" | "max" | "sum"; verb?: string; limit?: number}
export const figures: Figure[] = [
  {key: "cpu", title: "CPU", stats: ["cpu_used"], unit: "%", of: "last", limit: 90},
  {key: "ram", title: "RAM", stats: ["ram_used"], unit: "%", of: "last", limit: 90},
  {key: "disk", title: "Disk", stats: ["disk_used"], unit: "%", of: "max", verb: "max", limit: 90},
  {key: "load", title: "Load", stats: ["load_1"], unit: "", of: "last"},
  {key: "net", title: "Net", stats: ["net_in", "net_out"], unit: "B/s", of: "sum"},
]

export type Values = Record<string, number | undefined>
// Host is a host here (edge ""), or at an edge of this hub: the same id at two edges is two hosts.
export interface Host {key: string; name: string; edge: string; id: string; state: "silent" | "late" | "high" | "ok"; why: string; age: number; values: Values; tags: Tags}

// keyOf tells hosts apart. The name of an edge has no blank.
export const keyOf = (edge: string, id: string): string => `${edge} ${id}`

// Found is what readings say of a host.
interface Found {edge: string; id: string; time: number; values: Values; tags: Tags}

// Fleet joins what is known of each host. The relays of an edge are asked for at the edge, through its
// link; without it, what readings have shown of them is kept.
export class Fleet {
  edges: Edge[] = []
  private relays = new Map<string, Relay[]>() // by edge
  private kept = new Map<string, Found>() // at edges
  private asked = new Map<string, number>() // by edge: when its relays were asked for
  private asking: Promise<void> | null = null
  private past = new Set<string>() // silent edges whose last hosts were asked for

  // ask asks about edges. It does not wait long for any of them.
  async ask(stats: string[], signal: AbortSignal): Promise<void> {
    this.edges = (await get<Edges>("/edges", [], signal)).edges ?? []
    this.asking ??= this.askEach(stats, signal).finally(() => { this.asking = null })
    await Promise.race([this.asking, sleep(1000, signal)])
  }

  // askEach asks three edges at a time, so that slow ones leave the browser connections for the rest.
  private async askEach(stats: string[], signal: AbortSignal): Promise<void> {
    const now = Date.now() / 1000, due = this.edges.filter(e => now - (this.asked.get(e.name) ?? 0) > 9)
    const some = async () => {
      for (let e = due.shift(); e && !signal.aborted; e = due.shift()) {
        this.asked.set(e.name, now)
        try {
          if (e.state === "connected") this.relays.set(e.name, await get<Relay[]>("/relays", [["edge", e.name]], signal))
          else await this.askPast(e, stats, signal)
        } catch { /* its link may be gone since: its readings have to do, until it is asked again */ }
      }
    }
    await Promise.all([some(), some(), some()])
  }

  // askPast finds the hosts of an edge that is silent, by the readings before that.
  private async askPast(e: Edge, stats: string[], signal: AbortSignal): Promise<void> {
    const heard = moment(e.heard), stat = stats.includes("cpu_used") ? "cpu_used" : stats[0]
    if (heard === undefined || stat === undefined || this.past.has(e.name + e.heard)) return
    const at = heard + (e.clock_offset ?? 0) // by the edge's clock
    const ask = (step: number, from: number) => askRange({stat, by: ["host"], verb: "count", step, filters: [["edge", e.name]]}, from, at + step, signal)
    // A point has the time of its beginning, so the last two minutes are asked for by the second too.
    // That needs single readings, which may be gone. After a day no minute is shown.
    const answers = await Promise.all([ask(60, at - 900), ...(Date.now() / 1000 - at < 86_400 ? [ask(1, at - 120).catch(() => ({series: []}))] : [])])
    this.past.add(e.name + e.heard)
    const seen = new Map<string, number>()
    for (const answer of answers) for (const s of answer.series) {
      const id = s.tags.host ?? "", last = s.points.findLast(p => p[1])
      if (last) seen.set(id, Math.min(at, Math.max(last[0], seen.get(id) ?? 0)))
    }
    for (const [id, time] of seen) if (!this.kept.has(keyOf(e.name, id))) this.kept.set(keyOf(e.name, id), {edge: e.name, id, time, values: {}, tags: {edge: e.name}})
  }

  // hosts are all that are known, by this Pulse's relays and by answers of /latest to all figures'
  // stats, in their order.
  hosts(own: Relay[], answers: Latest[][]): Host[] {
    const edges = new Map(this.edges.map(e => [e.name, e])), fresh = new Map<string, Found>()
    let i = 0
    for (const f of figures) for (const _ of f.stats) for (const r of answers[i++] ?? []) {
      const id = String(r.host), edge = edges.has(String(r.edge)) ? String(r.edge) : "", key = keyOf(edge, id), v = Number(r.value)
      let found = fresh.get(key)
      if (!found) fresh.set(key, (found = {edge, id, time: 0, values: {}, tags: {}}))
      found.time = Math.max(found.time, r.time)
      const before = found.values[f.key]
      found.values[f.key] = before === undefined ? v : f.of === "max" ? Math.max(before, v) : f.of === "sum" ? before + v : v
      if (!edge) continue
      for (const [k, value] of Object.entries(r)) if (!["time", "value", "host", ...unsaid].includes(k)) found.tags[k] = String(value)
      this.kept.set(key, found)
    }
    const all = new Map<string, Host>()
    for (const r of own) all.set(keyOf("", r.id), hostOf({edge: "", id: r.id}, fresh.get(keyOf("", r.id)), undefined, r))
    for (const [name, edge] of edges) for (const r of this.relays.get(name) ?? []) {
      const key = keyOf(name, r.id)
      all.set(key, hostOf({edge: name, id: r.id}, fresh.get(key), edge, r, this.kept.get(key)))
    }
    for (const [key, k] of this.kept) {
      if (all.has(key)) continue
      const forgotten = edges.get(k.edge)?.state === "connected" && this.relays.has(k.edge) && !fresh.has(key)
      if (!forgotten) all.set(key, hostOf(k, fresh.get(key), edges.get(k.edge), undefined, k))
    }
    return [...all.values()]
  }
}

// unsaid are tags of a part of a host.
const unsaid = ["mount", "interface"]

function hostOf(of: {edge: string; id: string}, fresh: Found | undefined, edge: Edge | undefined, relay: Relay | undefined, kept?: Found): Host {
  // Times of an edge are of its clock.
  const now = Date.now() / 1000, seen = Math.max(moment(relay?.last_seen) ?? -Infinity, (fresh ?? kept)?.time ?? -Infinity) - (edge?.clock_offset ?? 0)
  const values = fresh?.values ?? {}, high = figures.some(f => f.limit !== undefined && (values[f.key] ?? 0) >= f.limit)
  const late = relay !== undefined && now - seen > 2 * Math.min(...relay.collectors.map(c => c.interval), 3600) + 5
  const away = of.edge && edge?.state !== "connected" ? `its edge ${of.edge} is ${edge?.state === "off" ? "off" : "silent"}` : ""
  const silent = away || (relay ? (relay.connected ? "" : "it is not connected") : fresh ? "" : "it has no reading of late")
  const tags: Tags = {...kept?.tags, ...(of.edge ? {edge: of.edge} : {})}
  for (const t of new Set(relay?.collectors.flatMap(c => c.tags))) {
    const at = t.indexOf(":"), key = t.slice(0, at)
    if (at > 0 && !unsaid.includes(key) && !(of.edge && key === "edge")) tags[key] = t.slice(at + 1)
  }
  return {key: keyOf(of.edge, of.id), name: placed(of.edge, of.id), ...of, state: silent ? "silent" : late ? "late" : high ? "high" : "ok", why: silent, age: Math.max(0, now - seen), values, tags}
}
