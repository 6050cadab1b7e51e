import {get, orEmpty, type Params, type Range} from "./api"
import {clock, utc} from "./format"
import {button, field, h, select} from "./ui"

// Window is the time that a view shows: some time until now, or from one moment to another.
export interface Window {from: number; to: number; now: boolean; back: string}

const backs: [string, string, number][] = [
  ["15m", "15 minutes", 900], ["1h", "1 hour", 3600], ["6h", "6 hours", 21600], ["1d", "1 day", 86400], ["1w", "1 week", 604800],
  ["30d", "30 days", 2592000], ["365d", "1 year", 31536000],
]

// windowOf reads a view's window from its address: range=6h, or from= and to= in seconds.
export function windowOf(params: URLSearchParams, usual = "1h"): Window {
  const from = Number(params.get("from")), to = Number(params.get("to"))
  const now = Date.now() / 1000
  if (from > 0 && to > from) return {from, to, now: false, back: ""}
  const back = backs.find(b => b[0] === params.get("range")) ?? backs.find(b => b[0] === usual)!
  return {from: now - back[2], to: now, now: true, back: back[0]}
}

// picker chooses a window; change gets the parameters of the address to set and unset.
export function picker(w: Window, change: (set: Record<string, string | undefined>) => void): HTMLElement {
  const options: [string, string][] = backs.map(b => [b[0], `last ${b[1]}`])
  if (!w.now) options.unshift(["", `${clock(w.from, false)} – ${clock(w.to, false)}`])
  const own = h("form", {class: "own", hidden: true, onsubmit: (e: Event) => {
    e.preventDefault()
    const a = Date.parse(start.value + zone) / 1000, b = Date.parse(stop.value + zone) / 1000
    if (b > a) change({from: String(a), to: String(b), range: undefined})
  }})
  const zone = utc() ? "Z" : ""
  const local = (t: number) => new Date(t * 1000 - (utc() ? 0 : new Date(t * 1000).getTimezoneOffset() * 60000)).toISOString().slice(0, 16)
  const start = h("input", {type: "datetime-local", value: local(w.from)}), stop = h("input", {type: "datetime-local", value: local(w.to)})
  own.append(field(utc() ? "from (UTC)" : "from (local time)", start), field("to", stop), h("button", {class: "main"}, "Show"))
  return h("div", {class: "picker"},
    select(options, w.back, v => v && change({range: v, from: undefined, to: undefined}), "time range"),
    button("Own range", () => { own.hidden = !own.hidden }),
    w.now ? null : button("Back to now", () => change({range: "1h", from: undefined, to: undefined})),
    own)
}

export interface Question {stat: string; by?: string[]; verb?: string; filters?: Params; step?: number}

export function rangeParams(q: Question, from: number, to: number): Params {
  const p: Params = [["start", String(Math.floor(from))], ["stop", String(Math.ceil(to))]]
  if (q.step) p.push(["step", `${q.step}s`])
  if (q.by?.length) p.push(["by", q.by.join(",")])
  if (q.verb && q.verb !== "mean") p.push(["verb", q.verb])
  return [...p, ...(q.filters ?? [])]
}

// ask asks /range; nothing that matches is an empty answer.
export function askRange(q: Question, from: number, to: number, signal?: AbortSignal): Promise<Range> {
  const now = Date.now() / 1000
  const params = rangeParams(q, from, to)
  if (to >= now) params[1] = ["stop", "0s"]
  return orEmpty(get<Range>(`/range/${encodeURIComponent(q.stat)}`, params, signal), {stat: q.stat, step: q.step ?? 60, source: [], series: []})
}
