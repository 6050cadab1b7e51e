import {ask, get, send, type Projection, type Reject, type Replay, type Status, type Uplink} from "./api"
import {gapsOf} from "./edges"
import {ago, bytes, clock, exact, moment, number, placed, span} from "./format"
import {linesOf, plot} from "./plot"
import {askRange, picker, windowOf} from "./range"
import {go, href} from "./route"
import {button, every, fill, h, notice, sleep, sparkline} from "./ui"
import type {View} from "./main"

// Metrics are the samples of /metrics, by name and labels as they stand there.
type Metrics = Map<string, number>

async function metrics(signal: AbortSignal): Promise<Metrics> {
  const text = await (await ask("GET", "/metrics", {signal})).text()
  const all: Metrics = new Map()
  for (const line of text.split("\n")) {
    const at = line.lastIndexOf(" ")
    if (at > 0 && !line.startsWith("#")) all.set(line.slice(0, at), Number(line.slice(at + 1)))
  }
  return all
}

// total adds up the samples of a name, over those labels that match.
function total(m: Metrics, name: string, label = ""): number {
  let sum = 0
  for (const [key, v] of m) if ((key === name || key.startsWith(name + "{")) && key.includes(label)) sum += v
  return sum
}

const names: Record<string, [title: string, what: string]> = {
  influx_raw: ["Single readings", "InfluxDB, raw"], influx_aggregates: ["Aggregates", "InfluxDB, windows"],
  live: ["Newest and live", "memory, streams, NATS"], alerts: ["Alerts", "evaluator"], mist: ["mist", "publishes"],
}

export async function pipeline({root, route, signal}: View): Promise<void> {
  const params = route.params
  const says = h("div", {}), link = h("div", {}), flow = h("div", {class: "flow"}), troubles = h("div", {}), refused = h("div", {}), jobs = h("div", {})
  const lags = new Map<string, number[]>()
  let before: {at: number; m: Metrics} | null = null

  const draw = (s: Status, m: Metrics) => {
    const now = performance.now() / 1000, dt = before ? now - before.at : 0, old = before?.m
    const rate = (name: string, label = "") => (old && dt > 0 ? Math.max(0, (total(m, name, label) - total(old, name, label)) / dt) : null)
    before = {at: now, m}
    const arrow = (per: number | null, what: string) => h("div", {class: `arrow${per ? " moving" : ""}`}, per === null ? "…" : `${number(per)} ${what}/s`, h("i"))
    const j = s.journal, read = rate("pulse_ingest_readings_total"), streams = total(m, "pulse_query_streams")
    const lacked = s.uplink?.known ? [...(lags.get("uplink") ?? []), s.uplink.lacks].slice(-90) : []
    lags.set("uplink", lacked)
    fill(link, s.uplink ? uplink(s.uplink, lacked) : null)
    fill(flow,
      h("section", {class: `box${s.relays.disconnected || s.edges?.silent ? " failing" : ""}`}, h("h2", {}, "Relays"),
        h("p", {}, `${number(s.relays.connected)} connected`), s.relays.disconnected ? h("p", {class: "bad"}, `${number(s.relays.disconnected)} silent`) : null,
        h("p", {class: "dim"}, `${number(s.relays.collectors)} collectors`),
        s.edges ? h("p", {}, h("a", {href: href(["edges"])}, "Edges"), `: ${number(s.edges.connected)} connected`, s.edges.silent ? h("span", {class: "bad"}, `, ${number(s.edges.silent)} silent`) : null) : null,
        counted("polls unanswered", total(m, "pulse_ingest_polls_unanswered_total")), counted("readings rejected", total(m, "pulse_ingest_readings_rejected_total")),
        counted("records wait in spools", total(m, "pulse_ingest_spool_records_waiting")), counted("readings dropped by full spools", total(m, "pulse_ingest_spool_readings_dropped"))),
      arrow(read, "readings"),
      h("section", {class: `box${j.error || j.lost ? " failing" : ""}`}, h("h2", {}, "Journal"),
        h("p", {}, `${number(j.messages)} events, ${bytes(j.bytes)}`), h("p", {class: "dim"}, `of at most ${bytes(j.max_bytes)} or ${span(j.retention_seconds)}`),
        j.first_time ? h("p", {}, `since ${clock(Date.parse(j.first_time) / 1000, false)}`) : null,
        j.reach ? h("p", {class: "dim"}, `at this rate (${bytes(j.reach.bytes_per_second)}/s) it will reach ${span(j.reach.seconds)} back`) : null,
        j.error ? h("p", {class: "bad"}, j.error) : null, j.lost ? h("p", {class: "bad"}, `${number(j.lost)} events lost`) : null),
      arrow(rate("pulse_projector_records_total"), "events"),
      h("section", {class: `box${s.projections.some(p => p.failing) ? " failing" : ""}`}, h("h2", {}, "Projections"),
        s.projections.map(p => projection(p, lags, rate("pulse_projector_points_written_total", `projection="${p.name}"`), total(m, "pulse_projector_rejected_records_total", `projection="${p.name}"`)))),
      arrow(rate("pulse_query_requests_total"), "requests"),
      h("section", {class: `box${s.influx.reachable ? "" : " failing"}`}, h("h2", {}, "Out"),
        h("p", {}, h("span", {class: `dot ${s.influx.reachable ? "ok" : "failing"}`}), s.influx.reachable ? `InfluxDB ${s.influx.version ?? ""}` : "InfluxDB does not answer"),
        s.influx.error ? h("p", {class: "bad"}, s.influx.error) : null,
        h("p", {}, `${number(total(m, "pulse_query_connections"))} HTTP connections`), h("p", {}, `${number(streams)} live streams`),
        h("p", {}, `${number(total(m, "pulse_journal_outside_connections"))} NATS clients`),
        h("p", {class: "dim"}, `Pulse ${s.version.split(" ")[0] ?? ""}, up ${span(s.uptime_seconds)}`)))
    const gaps = [...j.gaps.map(g => ({...g, of: "journal"})), ...s.projections.flatMap(p => p.gaps.map(g => ({...g, of: p.name})))]
    fill(troubles, s.reasons.map(r => notice(r)), [...(s.influx.damages ?? []), ...(s.state_file_damages ?? [])].map(d => notice(`Found damaged at ${clock(Date.parse(d.found) / 1000)}: ${d.what}: ${d.why ?? d.effect ?? ""}`)), gaps.length === 0 ? h("p", {class: "good"}, "No event of the journal is lost, and no projection has left one out.") : h("div", {class: "table"}, h("h2", {}, "Gaps"), h("table", {},
      h("thead", {}, h("tr", {}, ["found", "of", "events", "why"].map(t => h("th", {}, t)))),
      h("tbody", {}, gaps.map(g => h("tr", {}, h("td", {}, clock(Date.parse(g.time) / 1000)), h("td", {}, g.of), h("td", {}, `${number(g.count)} (${g.from}–${g.to})`), h("td", {}, g.reason)))))))
  }

  const w = windowOf(params)
  const change = (set: Record<string, string | undefined>) => {
    for (const [k, v] of Object.entries(set)) v === undefined ? params.delete(k) : params.set(k, v)
    go(["pipeline"], params)
  }
  const ask2 = h("div", {})
  const held = plot({title: "Readings that InfluxDB holds", unit: "/s", height: 160, onSelect: (from, to) => offer(from, to)})
  signal.addEventListener("abort", () => held.destroy())
  // offer asks before a range is written again.
  const offer = (from: number, to: number) => {
    const start = h("button", {type: "button", class: "main", onclick: async () => {
      start.disabled = true
      try {
        await send("POST", "/replay", {projection: "all", from: new Date(from * 1000).toISOString(), to: new Date(to * 1000).toISOString()})
        fill(ask2)
        await replays()
      } catch (e) {
        fill(ask2, notice((e as Error).message))
      }
    }}, "Replay")
    fill(ask2, h("div", {class: "bar"}, `Write ${clock(from)} – ${clock(to)} again, from the journal?`, start,
      button("Zoom in", () => change({from: String(Math.floor(from)), to: String(Math.ceil(to)), range: undefined})), button("No", () => fill(ask2))))
    start.focus()
  }
  const replays = async () => {
    const list = await get<Replay[]>("/replay", [], signal)
    fill(jobs, list.length ? h("h2", {}, "Replays") : null, list.slice(0, 10).map(r => h("div", {class: "box"},
      h("p", {}, `${clock(Date.parse(r.from) / 1000)} – ${clock(Date.parse(r.to) / 1000)}, ${r.projections.join(" and ")}: `, h("strong", {class: r.state === "failed" ? "bad" : r.state === "done" ? "good" : ""}, r.state),
        r.seconds_left !== null && r.state === "running" ? `, ${span(r.seconds_left)} left` : "", ` (${number(r.parts.reduce((n, p) => n + p.points, 0))} points)`),
      r.state === "running" || r.state === "waiting" ? [h("progress", {max: "1", value: String(r.progress), "aria-label": "progress of the replay"}), button("Cancel", () => void send("DELETE", `/replay/${encodeURIComponent(r.id)}`).then(replays, (e: Error) => fill(ask2, notice(e.message))), "danger")] : null,
      r.last_error ? h("p", {class: "bad"}, r.last_error) : null,
      r.parts.flatMap(p => p.notes).map(n => h("p", {class: "dim"}, n)))))
  }

  fill(root, h("h1", {}, "Pipeline"), says, flow, link, troubles, refused, h("h2", {}, "What is there"),
    h("div", {class: "bar"}, picker(w, change), button("Replay all of it", () => offer(w.from, w.now ? Date.now() / 1000 : w.to))), held.root,
    h("p", {class: "dim"}, "Drag over a range to write it again from the journal. While InfluxDB was away there is a hole, which closes from its newest end."), ask2, jobs)

  // What InfluxDB will never accept, the newest first.
  const rejects = async () => {
    const list = await get<Reject[]>("/rejects", [], signal)
    fill(refused, list.length === 0 ? null : [h("h2", {}, `Refused by InfluxDB for good: ${number(list.reduce((n, r) => n + r.count, 0))} readings`), h("div", {class: "table"}, h("table", {},
      h("thead", {}, h("tr", {}, ["when", "relay", "stat", "readings", "why"].map(t => h("th", {}, t)))),
      h("tbody", {}, list.slice(0, 10).map(r => h("tr", {}, h("td", {}, clock(Date.parse(r.time) / 1000)), h("td", {}, placed(r.edge ?? "", r.relay)), h("td", {}, r.stat), h("td", {}, number(r.count)), h("td", {}, r.reason))))))])
  }

  let stat = ""
  const drawHeld = async () => {
    if (!stat) {
      const keys = await get<string[]>("/keys", [], signal)
      stat = keys.includes("cpu_used") ? "cpu_used" : keys[0] ?? ""
    }
    if (!stat) return
    const now = Date.now() / 1000, to = w.now ? now : w.to, from = w.now ? now - (w.to - w.from) : w.from
    const answer = await askRange({stat, verb: "count"}, from, w.now ? to + 1 : to, signal), {step} = answer
    // The newest slot is not over, so its rate is not known.
    const whole = answer.series.map(s => ({...s, points: s.points.filter(p => p[0] + step <= now).map(([t, n]): [number, number | null] => [t, n === null ? null : n / step])}))
    const {times, lines} = linesOf(whole, () => `readings of ${stat}`)
    held.root.hidden = lines.length === 0
    if (lines.length) held.set(times, lines, from, to)
  }
  void every(3000, signal, () => drawHeld().catch(() => {})) // what follows says that the server is away
  void every(10_000, signal, () => rejects().catch(() => {}))
  const look = async () => {
    try {
      const [s, m] = await Promise.all([get<Status>("/status", [], signal), metrics(signal), replays()])
      for (const p of s.projections) {
        const list = lags.get(p.name) ?? []
        list.push(p.lag + p.backlog)
        lags.set(p.name, list.slice(-90))
      }
      fill(says)
      draw(s, m)
    } catch (e) {
      if (!signal.aborted) fill(says, notice((e as Error).message))
    }
  }
  await look() // rates are known from the second time on
  await sleep(500, signal)
  await every(2000, signal, look)
}

// uplink is an edge's own link to its hub, in words.
function uplink(u: Uplink, lacked: number[]): HTMLElement {
  const since = moment(u.since), lasts = since === undefined ? "" : ` for ${span(ago(u.since))}, since ${clock(since)}`
  const state = u.state === "connected" ? "connected" + lasts : u.state === "refused" ? "refused by the hub" + lasts : "not connected" + lasts + ": it tries again by itself"
  const bad = u.state !== "connected" || Boolean(u.notice)
  return h("section", {class: `box link${bad ? " failing" : ""}`, "aria-label": "link to the hub"}, h("h2", {}, h("span", {class: `dot ${bad ? "silent" : "ok"}`}), "Link to the hub"),
    h("p", {class: bad ? "bad" : ""}, h("strong", {}, state)),
    u.error ? notice(u.error) : null, u.notice ? notice(u.notice) : null,
    h("p", {class: u.lacks || !u.known ? "" : "good"}, !u.known ? "What the hub has is not known: there was no link since this start. What it lacks waits here." :
      u.lacks === 0 ? `The hub has all events of this journal, up to number ${exact(u.last)}. ` : `The hub has this journal's events up to number ${exact(u.hub_has)} and lacks those up to number ${exact(u.last)}, ${u.state === "connected" ? "which are handed over now" : "which wait here"}. `, lacked.some(n => n > 0) ? sparkline(lacked) : null),
    gapsOf(u.gaps),
    h("p", {class: "dim"}, `This edge is ${u.edge}; the hub is ${u.hub}${u.hub_release ? `, Pulse ${u.hub_release.split(" ")[0]}` : ""}. Everything here goes on without the link.`))
}

const counted = (what: string, n: number) => (n ? h("p", {class: "warn"}, `${number(n)} ${what}`) : null)

function projection(p: Projection, lags: Map<string, number[]>, written: number | null, rejected: number): HTMLElement {
  const [title, what] = names[p.name] ?? [p.name, ""], waits = p.lag + p.backlog
  return h("div", {class: "projection"}, h("p", {}, h("span", {class: `dot ${p.failing ? "failing" : waits > 1000 ? "late" : "ok"}`}), h("strong", {}, title), ` `, h("span", {class: "dim"}, what)),
    h("p", {}, waits === 0 ? "up to date" : `${number(waits)} ${waits === 1 ? "event waits" : "events wait"}, the oldest for ${span(p.lag_seconds)}`, written ? `, ${number(written)} points/s` : "", " ", waits || (lags.get(p.name) ?? []).some(v => v > 0) ? sparkline(lags.get(p.name) ?? []) : null),
    p.backlog ? h("p", {class: "warn"}, `${number(p.backlog)} of them are filled in behind live readings`) : null,
    p.seconds_to_loss !== null ? h("p", {class: p.seconds_to_loss < 3600 ? "bad" : "dim"}, `the journal still holds them for ${span(p.seconds_to_loss)}`) : null,
    counted("events could not be applied, and were left out", rejected),
    p.lost ? h("p", {class: "bad"}, `${number(p.lost)} events were lost to it`) : null,
    p.last_error && p.failing ? h("p", {class: "bad"}, p.last_error) : null)
}

