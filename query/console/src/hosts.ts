import {get, isHub, orEmpty, type Latest, type Params, type Relay} from "./api"
import {figures, Fleet, keyOf, type Host} from "./fleet"
import {number, span} from "./format"
import {askRange} from "./range"
import {href, replace} from "./route"
import {every, fill, h, notice, select, sleep, sparkline} from "./ui"
import type {View} from "./main"

type Row = Host | {group: string; hosts: Host[]}

const rowHeight = 40

export async function hosts({root, route, signal}: View): Promise<void> {
  const params = route.params
  let all: Host[] = [], rows: Row[] = []
  const lines = new Map<string, {at: number; values: Record<string, (number | null)[]>}>()
  const save = (key: string, value: string) => { value ? params.set(key, value) : params.delete(key); replace(["hosts"], params); scroller.scrollTop = 0; arrange() }

  const search = h("input", {type: "search", placeholder: "Search hosts and tags", "aria-label": "search hosts and tags", value: params.get("q") ?? "", oninput: () => save("q", search.value)})
  const groups = h("span", {}), chip = h("span", {})
  const summary = h("p", {class: "summary", role: "status"})
  const body = h("div", {class: "rows", role: "presentation"})
  const scroller = h("div", {class: "scroller", tabindex: "0", role: "rowgroup", onscroll: () => draw()}, body)
  const head = h("div", {class: "row head", role: "row"})
  const error = h("div", {})
  fill(root, h("h1", {}, "Hosts"), h("div", {class: "bar"}, search, groups, chip, summary), error,
    h("div", {class: "hosts", role: "table", "aria-label": "hosts"}, h("div", {role: "rowgroup"}, head), scroller))

  const columns: [key: string, title: string][] = [["state", "State"], ["host", "Host"], ["age", "Seen"], ...figures.map((f): [string, string] => [f.key, f.title])]
  const drawHead = () => {
    const by = params.get("sort") ?? "state", down = params.get("desc") === "1"
    fill(head, columns.map(([key, title]) => h("div", {class: `cell ${key}`, role: "columnheader", "aria-sort": key === by ? (down ? "descending" : "ascending") : "none"},
      h("button", {type: "button", onclick: () => {
        params.set("sort", key)
        if (key === by && !down || key !== by && figures.some(f => f.key === key)) params.set("desc", "1")
        else params.delete("desc")
        save("sort", key)
      }}, title, key === by ? (down ? " ↓" : " ↑") : ""))))
  }

  const arrange = () => {
    const q = (params.get("q") ?? "").toLowerCase().split(/\s+/).filter(w => w)
    const by = params.get("sort") ?? "state", sign = params.get("desc") === "1" ? -1 : 1
    const rank = {silent: 0, late: 1, high: 2, ok: 3}
    const value = (a: Host): number | string => by === "host" ? a.name : by === "state" ? rank[a.state] : by === "age" ? a.age : a.values[by] ?? -Infinity
    const only = params.get("edge")
    fill(chip, only ? h("span", {class: "chip"}, `edge:${only}`, h("button", {type: "button", class: "quiet", "aria-label": "hosts of all edges", onclick: () => save("edge", "")}, "×")) : null)
    const found = all.filter(a => (!only || a.edge === only) && q.every(w => a.name.toLowerCase().includes(w) || Object.entries(a.tags).some(([k, v]) => `${k}:${v}`.toLowerCase().includes(w))))
    found.sort((a, b) => {
      const x = value(a), y = value(b)
      return (x < y ? -1 : x > y ? 1 : 0) * sign || (a.name < b.name ? -1 : a.name > b.name ? 1 : a.key < b.key ? -1 : 1)
    })
    const group = params.get("group") ?? ""
    rows = found
    if (group) {
      const sets = new Map<string, Host[]>()
      for (const a of found) {
        const name = a.tags[group] ?? ""
        sets.get(name)?.push(a) ?? sets.set(name, [a])
      }
      rows = [...sets].sort((a, b) => (a[0] < b[0] ? -1 : 1)).flatMap(([name, hosts]): Row[] => [{group: name ? `${group}:${name}` : `without ${group}`, hosts}, ...hosts])
    }
    const bad = all.filter(a => a.state === "silent").length, high = all.filter(a => a.state === "high").length
    fill(summary, `${found.length === all.length ? all.length : `${found.length} of ${all.length}`} ${all.length === 1 ? "host" : "hosts"}`, bad ? h("strong", {class: "bad"}, `, ${bad} silent`) : all.length === 1 ? ", connected" : ", all connected", high ? h("strong", {class: "warn"}, `, ${high} with high values`) : null)
    drawHead()
    body.style.height = `${rows.length * rowHeight}px`
    draw()
  }

  const cell = (key: string, ...c: Parameters<typeof h>[2][]) => h("div", {class: `cell ${key}`, role: "cell"}, ...c)
  const draw = () => {
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - 5), count = Math.ceil(scroller.clientHeight / rowHeight) + 10
    fill(body, rows.slice(first, first + count).map((row, i) => {
      const e = "group" in row ? groupRow(row) : hostRow(row)
      e.style.top = `${(first + i) * rowHeight}px`
      return e
    }))
  }
  const groupRow = (row: {group: string; hosts: Host[]}) => h("div", {class: "row group", role: "row"}, cell("state"),
    cell("host", row.group), cell("age", `${row.hosts.length}`),
    ...figures.map(f => {
      const known = row.hosts.map(a => a.values[f.key]).filter(v => v !== undefined)
      return cell(f.key, h("span", {class: "figure", title: "mean of the group"}, known.length ? number(known.reduce((a, b) => a + b, 0) / known.length, f.unit) : "–"))
    }))
  const hostRow = (a: Host) => h("div", {class: `row ${a.state}`, role: "row"},
    cell("state", h("span", {class: `dot ${a.state}`, title: a.why}), a.state),
    cell("host", h("a", {href: href(["host", a.id], {edge: a.edge})}, a.edge ? h("span", {class: "dim"}, a.edge, "/") : null, a.id)),
    cell("age", Number.isFinite(a.age) ? span(a.age) : "never"),
    ...figures.map(f => {
      const v = a.values[f.key], values = lines.get(a.key)?.values[f.key]
      return cell(f.key, h("span", {class: `figure${f.limit && v !== undefined && v >= f.limit ? " bad" : ""}`}, number(v, f.unit)), values?.some(x => x !== null) ? sparkline(values) : null)
    }))

  const visible = () => {
    const first = Math.floor(scroller.scrollTop / rowHeight)
    return rows.slice(first, first + Math.ceil(scroller.clientHeight / rowHeight) + 1).filter((r): r is Host => "id" in r)
  }
  // drawLines asks for the last hour of the rows that are seen, unless they were asked for within a minute.
  let asking = false
  const drawLines = async () => {
    const now = Date.now()
    const old = visible().filter(a => (lines.get(a.key)?.at ?? 0) < now - 60_000).slice(0, 100)
    if (asking || old.length === 0) return
    asking = true
    try {
      for (const a of old) lines.set(a.key, {at: now, values: lines.get(a.key)?.values ?? {}})
      const hub = fleet.edges.length > 0, by = hub ? ["edge", "host"] : ["host"]
      const filters = [...new Set(old.map(a => a.id))].map((id): Params[0] => ["host", id])
      if (hub) filters.push(...[...new Set(old.map(a => a.edge))].map((edge): Params[0] => ["edge", edge]))
      await Promise.all(figures.map(async f => {
        const answers = await Promise.all(f.stats.filter(stat => known.includes(stat)).map(stat => askRange({stat, by, verb: f.verb, step: 60, filters}, now / 1000 - 3600, now / 1000 + 1, signal)))
        for (const answer of answers) for (const s of answer.series) {
          const values = lines.get(keyOf(hub ? s.tags.edge ?? "" : "", s.tags.host ?? ""))?.values, before = values?.[f.key]
          if (values) values[f.key] = s.points.map((p, i) => (answer !== answers[0] && before?.[i] != null && p[1] !== null ? before[i]! + p[1] : p[1]))
        }
      }))
      draw()
    } finally {
      asking = false
    }
  }
  scroller.addEventListener("scrollend", () => void drawLines().catch(() => {}))

  let known: string[] = []
  const fleet = new Fleet()
  const refresh = async () => {
    try {
      known = await get<string[]>("/keys", [], signal)
      if (await isHub()) await fleet.ask(known, signal)
      const [relays, ...answers] = await Promise.all([get<Relay[]>("/relays", [], signal),
        ...figures.flatMap(f => f.stats.map(stat => (known.includes(stat) ? orEmpty(get<Latest[]>(`/latest/${stat}`, [["verb", "none"]], signal), []) : [])))])
      all = fleet.hosts(relays, answers)
      const keys = [...new Set(all.flatMap(a => Object.keys(a.tags)))].sort()
      fill(groups, keys.length ? select([["", "no groups"], ...keys.map((k): [string, string] => [k, `by ${k}`])], params.get("group") ?? "", v => save("group", v), "group by a tag") : null)
      fill(error)
      if (all.length === 0) fill(error, h("p", {class: "empty"}, "No host has connected yet. On a host: ", h("code", {}, "pulse relay --server THIS-HOST:3000"), " sends its cpu, ram, disk, load and network."))
      arrange()
      await drawLines()
    } catch (e) {
      if (!signal.aborted) fill(error, notice((e as Error).message))
    }
  }
  addEventListener("resize", draw, {signal})
  await every(5000, signal, async () => {
    const begin = performance.now()
    await refresh()
    if (performance.now() - begin > 500) await sleep(10_000, signal) // a large fleet
  })
}

