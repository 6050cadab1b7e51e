import {address, ask, get, isHub, send, statsOf, type Alert, type Edges, type Override, type Params, type Relay, type Trial} from "./api"
import {clock, number, span, tagsText, unitOf} from "./format"
import {linesOf, plot, type Options} from "./plot"
import {askRange} from "./range"
import {go} from "./route"
import {button, every, field, fill, h, notice, select} from "./ui"
import type {View} from "./main"

export async function alerts({root, route, signal}: View): Promise<void> {
  const id = route.path[1]
  if (id !== undefined) return edit(root, id === "new" ? undefined : id, signal)
  const list = h("div", {}), others = h("div", {})
  fill(root, h("h1", {}, "Alerts"), h("div", {class: "bar"}, button("New alert", () => go(["alerts", "new"]), "main")), list, others)
  void upkeep(others, signal)
  let units = false
  await every(5000, signal, async () => {
    try {
      if (!units) await statsOf([], signal)
      units = true
      const all = await get<Alert[]>("/alerts", [], signal)
      fill(list, all.length === 0 ? h("p", {class: "empty"}, "There is no alert yet.") : h("div", {class: "table"}, h("table", {},
        h("thead", {}, h("tr", {}, ["", "alert", "value", "posts to", "delivery", ""].map(t => h("th", {}, t)))),
        h("tbody", {}, all.map(row)))))
    } catch (e) {
      if (!signal.aborted) fill(list, notice((e as Error).message))
    }
  })
}

const signs: Record<string, string> = {gt: ">", ge: "≥", lt: "<", le: "≤", eq: "=", ne: "≠"}
const describe = (a: Alert): string => `${a.metric} ${signs[a.operator ?? "gt"] ?? ""} ${number(a.threshold, unitOf(a.metric))} over ${a.duration ?? "5m"}${a.by?.length ? `, each ${a.by.join(", ")}` : ""}${a.deadman ? `, or silent for ${a.deadman}` : ""}`

function row(a: Alert): HTMLElement {
  const s = a.status ?? {state: ""}
  const unseen = s.level === "OK" && (s.groups_watched === undefined ? s.value === undefined : s.groups_watched === 0)
  const level = unseen ? "–" : s.level ?? s.state
  return h("tr", {}, h("td", {class: unseen ? "dim" : level === "OK" ? "good" : "bad"}, h("strong", {}, level), s.since ? h("div", {class: "dim"}, `for ${span(Date.now() / 1000 - Date.parse(s.since) / 1000)}`) : null),
    h("td", {}, describe(a), h("div", {class: "dim"}, tagsText(a.tags ?? {})), a.warning ? h("div", {class: "warn"}, a.warning) : null, s.error ? h("div", {class: "bad"}, s.error) : null),
    h("td", {}, unseen ? h("span", {class: "dim"}, "no reading yet") : s.groups_watched !== undefined ? `${number(s.groups_firing)} of ${number(s.groups_watched)} fire` : number(s.value, unitOf(a.metric)), s.silent?.length ? h("div", {class: "bad"}, `silent: ${s.silent.join(", ")}`) : null),
    h("td", {}, a.post), h("td", {}, s.undelivered ? h("span", {class: "warn"}, `${number(s.undelivered)} wait`) : s.last_delivery ? `last ${clock(Date.parse(s.last_delivery) / 1000)}` : "none yet", s.delivery_error ? h("div", {class: "bad"}, s.delivery_error) : null),
    h("td", {}, button("Open", () => go(["alerts", a.id ?? ""]))))
}

// edit makes or changes an alert, and shows what it would have posted.
async function edit(root: HTMLElement, id: string | undefined, signal: AbortSignal): Promise<void> {
  const [hub, stats, keys, old] = await Promise.all([isHub(), statsOf([], signal), get<string[]>("/tags", [], signal), id === undefined ? undefined : get<Alert>(`/alerts/${encodeURIComponent(id)}`, [], signal)])
  const text = (value: string, more: Record<string, unknown> = {}) => h("input", {value, oninput: () => later(), ...more})
  const metric = text(old?.metric ?? (stats.includes("cpu_used") ? "cpu_used" : stats[0] ?? ""), {list: "stats", required: true})
  const operator = select(Object.entries(signs), old?.operator ?? "gt", () => later()), threshold = text(String(old?.threshold ?? 80), {required: true, inputmode: "decimal"})
  const duration = text(old?.duration ?? "5m"), levels = select([["info", "info"], ["warn", "warning"], ["crit", "critical"]], old?.level ?? "crit", () => later())
  const often = text(old?.every ?? "30s")
  const recover = text(old?.recover === undefined ? "" : String(old.recover), {inputmode: "decimal"}), by = text((old?.by ?? (hub ? ["edge", "host"] : ["host"])).join(","), {list: "keys"}), deadman = text(old?.deadman ?? "")
  // A line is a tag, since values may hold blanks.
  const tags = h("textarea", {rows: 2, placeholder: "service:web", value: Object.entries(old?.tags ?? {}).map(([k, v]) => `${k}:${v}`).join("\n"), oninput: () => later()}), post = text(old?.post ?? "", {required: true, type: "url", placeholder: "address of the receiver"})
  const from = select([["1h", "1 hour"], ["6h", "6 hours"], ["1d", "1 day"], ["2d", "2 days"], ["7d", "1 week"]], "6h", () => later(), "how far back")
  const says = h("div", {}), preview = h("div", {}), groups = h("div", {})

  const made = (): Alert => ({
    ...(id === undefined ? {} : {id}), metric: metric.value.trim(), operator: operator.value, threshold: threshold.value.trim() as unknown as number, duration: duration.value.trim() || "5m", level: levels.value,
    ...(recover.value.trim() ? {recover: recover.value.trim() as unknown as number} : {}), by: by.value.split(",").map(k => k.trim()).filter(k => k), ...(deadman.value.trim() ? {deadman: deadman.value.trim()} : {}),
    tags: Object.fromEntries(tags.value.split("\n").map(t => t.trim()).filter(t => t.includes(":")).map(t => [t.slice(0, t.indexOf(":")), t.slice(t.indexOf(":") + 1)])), post: post.value.trim(), every: often.value.trim() || "30s",
  })
  let trial: Trial | null = null
  const looks: Options = {title: "", unit: "", height: 260, threshold: () => (Number.isFinite(Number(threshold.value)) && threshold.value.trim() ? Number(threshold.value) : null),
    marks: () => (trial?.posts ?? []).map(p => ({time: Date.parse(p.time) / 1000, bad: p.level !== "OK"}))}
  const chart = plot(looks)
  signal.addEventListener("abort", () => chart.destroy())

  const back: Record<string, number> = {"1h": 3600, "6h": 21600, "1d": 86400, "2d": 172800, "7d": 604800}
  let asked: AbortController | null = null
  const test = async () => {
    asked?.abort()
    const mine = (asked = new AbortController())
    const a = made(), to = Date.now() / 1000, start = to - back[from.value]!
    fill(says)
    try {
      const stop = AbortSignal.any([signal, mine.signal])
      const {id: _, post: __, ...asks} = a
      const [answer, range] = await Promise.all([
        ask("POST", "/alerts/test", {body: JSON.stringify({...asks, from: from.value}), signal: stop}).then(r => r.json() as Promise<Trial>),
        askRange({stat: a.metric, by: a.by, filters: Object.entries(a.tags ?? {})}, start, to + 1, stop)])
      trial = answer
      looks.unit = unitOf(a.metric)
      const {times, lines} = linesOf(range.series.slice(0, 50), s => tagsText(s.tags) || a.metric)
      chart.root.querySelector("figcaption")!.textContent = `${a.metric}, the threshold, and what would have been posted`
      chart.root.hidden = lines.length === 0
      if (lines.length) chart.set(times, lines, start, to)
      fill(preview, h("p", {}, h("strong", {}, trial.posts.length ? `It would have posted ${number(trial.posts.length)} times` : "It would have posted nothing"),
        ` in the last ${span(to - start)}; ${number(trial.matched)} readings matched, in ${number(trial.groups)} ${trial.groups === 1 ? "group" : "groups"}.`, trial.stopped ? ` It stopped at ${clock(Date.parse(trial.reached) / 1000)}: ${trial.stopped}.` : "",
        trial.lost ? h("span", {class: "warn"}, ` ${number(trial.lost)} events of this time are missing.`) : null),
        (trial.notes ?? []).map(n => notice(n, "info")),
        trial.posts.length ? h("div", {class: "table"}, h("table", {}, h("thead", {}, h("tr", {}, ["when", "level", "message"].map(t => h("th", {}, t)))),
          h("tbody", {}, trial.posts.slice(0, 100).map(p => h("tr", {}, h("td", {}, clock(Date.parse(p.time) / 1000)), h("td", {class: p.level === "OK" ? "good" : "bad"}, p.level), h("td", {}, p.message)))))) : null)
    } catch (e) {
      if (!mine.signal.aborted && !signal.aborted) fill(says, notice((e as Error).message))
    }
  }
  let timer: ReturnType<typeof setTimeout> | undefined
  const later = () => { clearTimeout(timer); timer = setTimeout(() => void test(), 500) }
  signal.addEventListener("abort", () => { clearTimeout(timer); asked?.abort() })

  const form = h("form", {class: "form", onsubmit: async (e: Event) => {
    e.preventDefault()
    try {
      await send(id === undefined ? "POST" : "PUT", "/alerts", made())
      go(["alerts"])
    } catch (e) {
      fill(says, notice((e as Error).message))
    }
  }},
    field("stat", h("span", {}, metric, h("datalist", {id: "stats"}, stats.map(s => h("option", {value: s}))))), field("is", operator), field("threshold", threshold), field("as a mean over", duration, "such as 30s, 5m, 2h"), field("looked at every", often),
    field("level", levels), field("over again at", recover, "empty: the threshold"), field("each by itself", h("span", {}, by, h("datalist", {id: "keys"}, keys.map(k => h("option", {value: k})))), "tags, by comma; empty: one for all"),
    field("only readings with", tags, "tags, one a line"), field("also when silent for", deadman, "such as 10m; empty: never"), h("div", {class: "wide"}, field("post to", post)),
    h("div", {class: "wide bar"}, h("button", {class: "main"}, id === undefined ? "Make the alert" : "Save"), button("Back", () => go(["alerts"])),
      id === undefined ? null : button("Delete", () => { if (confirm("Delete this alert?")) void send("DELETE", `/alerts/${encodeURIComponent(id)}`).then(() => go(["alerts"]), (e: Error) => fill(says, notice(e.message))) }, "danger")))
  fill(groups, old?.status?.groups?.length ? [h("h2", {}, "What fires now"), h("ul", {}, old.status.groups.map(g => h("li", {}, h("strong", {class: "bad"}, g.level), ` ${tagsText(g.tags)} ${number(g.value, unitOf(old.metric))} since ${clock(Date.parse(g.since) / 1000)}`)))] : null)
  chart.root.hidden = true
  fill(root, h("h1", {}, id === undefined ? "New alert" : "Alert"), form, says, groups, h("h2", {}, "On the past"), h("div", {class: "bar"}, field("in the last", from)), chart.root, preview)
  await test()
}

// upkeep lists silent relays, and overrides, which can be made and ended: here, or at an edge of this
// hub, through its link. Relays can be forgotten only where they connect, so those of an edge only there.
async function upkeep(root: HTMLElement, signal: AbortSignal): Promise<void> {
  let edge = ""
  const at = h("div", {class: "bar"}), says = h("div", {}), trouble = h("div", {}), silent = h("div", {}), overrides = h("div", {})
  const collector = h("input", {required: true, placeholder: "cpu", "aria-label": "collector"}), every_ = h("input", {value: "1s", required: true, "aria-label": "interval"}), lasts = h("input", {value: "10m", required: true, "aria-label": "for how long"}), of = h("input", {placeholder: "all", "aria-label": "relays, by comma"})
  const act = async (what: Promise<unknown>) => {
    try {
      await what
      fill(says)
    } catch (e) {
      fill(says, notice((e as Error).message))
    }
    await load()
  }
  const load = async () => {
    const where: Params = edge ? [["edge", edge]] : [], mine = edge
    try {
      await list(where, () => mine === edge)
      if (mine === edge) fill(trouble)
    } catch (e) {
      // The list of alerts says what is wrong here.
      if (mine && mine === edge && !signal.aborted) fill(trouble, notice((e as Error).message))
    }
  }
  // list draws what there is, with buttons that act there.
  const list = async (where: Params, wanted: () => boolean) => {
    const [relays, active] = await Promise.all([get<Relay[]>("/relays", where, signal), get<Override[]>("/overrides", where, signal)])
    if (!wanted()) return
    const gone = relays.filter(r => !r.connected)
    fill(silent, h("h2", {}, "Silent hosts"), gone.length === 0 ? h("p", {class: "dim"}, "Every host that is known is connected.") : h("div", {class: "table"}, h("table", {}, h("tbody", {}, gone.slice(0, 200).map(r => h("tr", {}, h("td", {}, r.id), h("td", {class: "dim"}, r.last_seen ? `last seen ${clock(Date.parse(r.last_seen) / 1000)}` : "never seen"),
      edge ? null : h("td", {class: "right"}, button("Forget", () => { if (confirm(`Forget ${r.id}? Its history stays.`)) void act(send("DELETE", `/relays/${encodeURIComponent(r.id)}`)) }, "danger"))))))))
    fill(overrides, active.map(o => h("div", {class: "bar"}, `${Object.entries(o.collectors).map(([c, s]) => `${c} every ${span(s)}`).join(", ")} of ${number(o.relays.length)} ${o.relays.length === 1 ? "relay" : "relays"}, ${span(o.remaining)} left`, button("End", () => void act(send("DELETE", address(`/overrides/${encodeURIComponent(o.id)}`, where)))))))
  }
  fill(root, at, says, trouble, silent, h("h2", {}, "Poll more often for a while"), overrides,
    h("form", {class: "bar", onsubmit: (e: Event) => {
      e.preventDefault()
      const relays = of.value.split(",").map(r => r.trim()).filter(r => r)
      void act(send("POST", "/overrides", {duration: lasts.value, collectors: {[collector.value.trim()]: every_.value}, ...(relays.length ? {relays} : {}), ...(edge ? {edge} : {})}))
    }}, field("collector", collector), field("every", every_), field("for", lasts), field("of the relays", of), h("button", {}, "Poll so")))
  isHub().then(async hub => {
    const edges = hub ? (await get<Edges>("/edges", [], signal)).edges ?? [] : []
    if (edges.length) fill(at, field("hosts and polls", select([["", "of this hub"], ...edges.map((e): [string, string] => [e.name, `at ${e.name}`])], "", v => {
      edge = v
      fill(silent)
      fill(overrides)
      fill(says)
      void load()
    })))
  }, () => {})
  await every(5000, signal, load)
}
