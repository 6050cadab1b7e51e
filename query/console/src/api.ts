// The API, asked as any client asks it. Every call may fail with an ApiError, whose text is for a
// person.

import {noteUnit} from "./format"
import {sleep} from "./ui"

export class ApiError extends Error {
  constructor(readonly status: number, text: string) { super(text) }
}

const place = "pulse-token"
let token = sessionStorage.getItem(place) ?? ""

// onState hears whether the server answers, and when the token is missing or wrong.
type State = "ok" | "away" | "token"
let listener: (state: State, text: string) => void = () => {}
export function onState(f: typeof listener): void { listener = f }

// setToken keeps the token for this session of the browser only.
export function setToken(t: string): void {
  token = t
  hub = null
  if (t) sessionStorage.setItem(place, t)
  else sessionStorage.removeItem(place)
}
export const hasToken = (): boolean => token !== ""

export type Params = [key: string, value: string][]

// address is a path with its parameters.
export function address(path: string, params: Params = []): string {
  const q = params.map(([k, v]) => `${encodeURIComponent(k)}=${encodeURIComponent(v)}`).join("&")
  return q ? `${path}?${q}` : path
}

export async function ask(method: string, path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(path, {...init, method, headers: {...(init.headers as Record<string, string>), "X-AUTH-TOKEN": token}, credentials: "omit", cache: "no-store"})
  } catch (e) {
    if (init.signal?.aborted) throw e
    listener("away", "The server does not answer. This page goes on by itself when it is back.")
    throw new ApiError(0, "the server does not answer")
  }
  if (answer.ok) {
    listener("ok", "")
    return answer
  }
  let text = `${answer.status} ${answer.statusText}`
  try {
    text = ((await answer.json()) as {error?: string}).error ?? text
  } catch { /* not an error of the API: its status says enough */ }
  if (answer.status === 401) listener("token", token ? "The server does not take this token." : "")
  else if (answer.status === 429) listener("token", text)
  else listener("ok", "")
  throw new ApiError(answer.status, text)
}

export async function get<T>(path: string, params: Params = [], signal?: AbortSignal): Promise<T> {
  return (await ask("GET", address(path, params), {signal})).json() as Promise<T>
}

export async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  return (await ask(method, path, {body: body === undefined ? undefined : JSON.stringify(body)})).json() as Promise<T>
}

// passing reports whether an error may be over soon: the server is away, or InfluxDB is.
export const passing = (e: unknown): boolean => e instanceof ApiError && (e.status === 0 || e.status >= 500)

// persist calls f until it does not fail with a passing error, or signal.
export async function persist(signal: AbortSignal, f: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await f()
    } catch (e) {
      if (signal.aborted || !passing(e)) throw e
    }
    await sleep(2000, signal)
  }
}

// orEmpty answers nothing where the API says 404: nothing matches.
export async function orEmpty<T>(answer: Promise<T>, empty: T): Promise<T> {
  try {
    return await answer
  } catch (e) {
    if (e instanceof ApiError && e.status === 404) return empty
    throw e
  }
}

// statsOf lists the stats, of the series that match if there are filters, and notes their units.
export async function statsOf(filters: Params, signal?: AbortSignal): Promise<string[]> {
  const keys = await get<(Key | string)[]>("/keys", [["detail", "1"], ...filters], signal)
  return keys.map(k => {
    if (typeof k === "string") return k // as 0.2 answers, which knows no units
    noteUnit(k.stat, k.unit)
    return k.stat
  })
}

// hub is whether this Pulse is a hub, with edges, once the server has said so.
let hub: Promise<boolean> | null = null
export function isHub(): Promise<boolean> {
  hub ??= get<Status>("/status").then(s => s.edges !== undefined, e => { hub = null; throw e })
  return hub
}

// What the API answers.

export type Tags = Record<string, string>
export interface Key {stat: string; unit?: string}
export interface Relay {
  id: string; connected: boolean; address?: string; connected_at?: string; last_seen?: string
  collectors: {name: string; tags: string[]; interval: number}[]
  spool?: {waiting_records: number; dropped_readings: number}
  polls: number; unanswered: number; skipped: number; rejected: number; replaced: number
}
export interface Series {tags: Tags; points: [number, number | null][]}
export interface Range {stat: string; step: number; source: string[]; series: Series[]}
export type Latest = {time: number; value: number} & Record<string, string | number>
export interface Gap {from: number; to: number; count: number; reason: string; time: string}
export interface Projection {
  name: string; state: string; failing: boolean; position: number; applied: number; lag: number; lag_seconds: number
  backlog: number; seconds_to_loss: number | null; lost: number; gaps: Gap[]; last_error?: string
}
export interface Damage {found: string; what: string; why?: string; effect?: string}
export interface Status {
  state: string; reasons: string[]; version: string; uptime_seconds: number
  journal: {
    first_sequence: number; last_sequence: number; first_time?: string; last_time?: string; messages: number; bytes: number; max_bytes: number
    retention_seconds: number; reach?: {seconds: number; limit: string; bytes_per_second: number}; lost: number; gaps: Gap[]; error?: string
  }
  projections: Projection[]
  influx: {reachable: boolean; version?: string; error?: string; damages?: Damage[]}
  state_file_damages?: Damage[]
  relays: {connected: number; disconnected: number; collectors: number}
  uplink?: Uplink // of an edge
  edges?: {connected: number; silent: number} // of a hub
}
// Uplink is an edge's link to its hub. The numbers are of the edge's journal.
export interface Uplink {
  edge: string; hub: string; state: "connecting" | "connected" | "refused"; since?: string; hub_release?: string
  known: boolean // whether the hub has said since the start what it has
  hub_has: number; last: number; lacks: number; error?: string; notice?: string; gaps?: EdgeGap[] | null
}
// Edge is an edge as its hub sees it. The numbers are of the edge's journal, but for events.
export interface Edge {
  name: string; state: "connected" | "silent" | "never" | "off"; since?: string; heard?: string; address?: string; release?: string
  has: number; last: number; lacks: number; clock_offset?: number; events: number
  gaps?: EdgeGap[] | null; begun?: {time: string; at: number; kept: number; reason: string}[] | null
  notice?: string; refused?: {time: string; address: string; reason: string} | null
}
export interface EdgeGap {from: number; to: number; events: number; reason: string; time: string}
export interface Edges {edges: Edge[] | null; refused: {name: string; time: string; address: string; reason: string}[] | null}
export interface Reject {projection: string; sequence: number; edge?: string; relay: string; stat: string; count: number; reason: string; time: string}
export interface Replay {
  id: string; projections: string[]; from: string; to: string; dry_run: boolean; state: string; progress: number; seconds_left: number | null; last_error?: string
  parts: {projection: string; state: string; points: number; readings: number; lost: number; notes: string[]}[]
}
export interface Alert {
  id?: string; tags?: Tags; metric: string; level?: string; operator?: string; threshold: number; duration?: string; post: string; every?: string
  recover?: number; by?: string[]; deadman?: string; warning?: string
  status?: {
    state: string; error?: string; level?: string; since?: string; value?: number; undelivered?: number; last_delivery?: string; delivery_error?: string
    silent?: string[]; groups_watched?: number; groups_firing?: number; groups?: {tags: Tags; level: string; since: string; value?: number; silent?: string[]}[]
  }
}
export interface Override {id: string; duration: number; remaining: number; collectors: Record<string, number>; relays: string[]}
export interface Trial {
  from: string; to: string; reached: string; stopped?: string; journal_from?: string; readings: number; matched: number; groups: number; firing: number; lost: number; notes?: string[]
  posts: {time: string; name: string; tags?: Tags; level: string; previous_level: string; value?: number; message: string}[]
}
