// Scenarios of a hub and of an edge. The server is a Pulse alone: what it would answer as a hub or as
// an edge, the test answers.
import assert from "node:assert/strict"

const ago = seconds => new Date(Date.now() - seconds * 1000).toISOString()
const never = "0001-01-01T00:00:00Z" // as Go writes a time that never was
const quiet = {gaps: [], begun: [], notice: "", clock_offset: 0.02, release: "0.6.0 (commit abc, go1.26)"}

// edges are those of a hub, a kind of each. passed is how long the test has been running, in seconds.
const edges = passed => [
  {...quiet, name: "ams1", state: "connected", since: ago(11_000), heard: ago(0), address: "10.1.0.5:40122", has: 120_345 + Math.floor(passed * 20), last: 120_345 + Math.floor(passed * 20), lacks: 0, events: 120_345},
  {...quiet, name: "fra1", state: "silent", since: ago(184), heard: ago(184), address: "10.2.0.5:51044", has: 88_000, last: 89_250, lacks: 1250, events: 88_000},
  {...quiet, name: "cust-7", state: "connected", since: ago(95), heard: ago(0), address: "172.16.7.2:33001", clock_offset: -4.2,
    has: 60_000 + Math.floor(passed * 900), last: 160_000, lacks: 100_000 - Math.floor(passed * 900), events: 58_500,
    gaps: [{from: 8001, to: 9500, events: 1500, time: ago(90), reason: "the edge's journal no longer held them: its retention overtook an outage"}]},
  {...quiet, name: "ship", state: "connected", since: ago(7200), heard: ago(0), address: "192.0.2.9:1234", has: 700, last: 700, lacks: 0, events: 5700, clock_offset: 61,
    begun: [{time: ago(7200), at: 1, kept: 5000, reason: "its journal was begun anew"}], notice: "another Pulse uses this name, from 198.51.100.4:999: <b>rename</b> one of them"},
  {...quiet, name: "lab", state: "never", since: never, heard: never, address: "", release: "", has: 0, last: 0, lacks: 0, events: 0, clock_offset: 0, refused: {time: ago(30), address: "10.3.0.1:7", reason: "its token is wrong"}},
  {...quiet, name: "old", state: "off", since: ago(90_000), heard: ago(90_000), address: "10.4.0.5:99", has: 10, last: 10, lacks: 0, events: 10},
]
const unknown = [{name: "ams2", time: ago(12), address: "10.9.0.5:41000", reason: "no edge of this name has a token here"}]

// Hosts: web1 is here, at ams1, at fra1 and at cust-7.
const relay = (id, connected, tags, seen = 1) => ({id, connected, last_seen: ago(seen), collectors: [{name: "host", tags, interval: 10}], polls: 1, unanswered: 0, skipped: 0, rejected: 0, replaced: 0})
const relays = {
  "": () => [relay("web1", true, ["service:web"]), relay("db1", true, ["service:db"])],
  ams1: () => [relay("web1", true, ["service:web"]), relay("cam<b>1", true, ["service:cam"])],
  "cust-7": () => [relay("web1", true, ["service:web"], 5), relay("till", false, ["service:shop"], 4000)],
}
const series = [["", "web1", "web", 11], ["", "db1", "db", 22], ["ams1", "web1", "web", 33], ["ams1", "cam<b>1", "cam", 44], ["cust-7", "web1", "web", 95]]
const gone = [["fra1", "web1", "web", 55], ["fra1", "db9", "db", 66]] // in InfluxDB, and not among the newest

// hub has the page hear a hub. It returns the addresses that were asked for.
async function hub(page) {
  const begin = Date.now(), asked = []
  const on = (path, body) => page.route(url => path.test(url.pathname), async route => {
    const url = new URL(route.request().url())
    asked.push(url)
    await route.fulfill({contentType: "application/json", body: JSON.stringify(await body(url, route))})
  })
  await on(/^\/edges$/, () => ({edges: edges((Date.now() - begin) / 1000), refused: unknown}))
  await on(/^\/status$/, async (_, route) => ({...(await (await route.fetch()).json()), edges: {connected: 3, silent: 1}}))
  await on(/^\/relays$/, url => relays[url.searchParams.get("edge") ?? ""]?.() ?? [])
  await on(/^\/keys$/, url => (url.searchParams.has("detail") ? [{stat: "cpu_used", unit: "percent"}] : ["cpu_used"]))
  await on(/^\/tags$/, () => ["edge", "host", "service"])
  const tagged = ([edge, host, service]) => ({host, service, ...(edge ? {edge} : {})})
  await on(/^\/latest\//, () => series.map(s => ({...tagged(s), time: Math.floor(Date.now() / 1000) - 2, value: s[3]})))
  await on(/^\/range\//, url => {
    const of = url.searchParams, by = (of.get("by") ?? "").split(","), step = Number(of.get("step")?.replace("s", "") ?? 60), now = Date.now() / 1000
    const stop = of.get("stop") === "0s" ? now : Number(of.get("stop"))
    const times = Array.from({length: 15}, (_, i) => Math.floor(stop / step - 14 + i) * step)
    const found = [...series, ...gone].filter(s => ["edge", "host"].every(k => !of.has(k) || of.getAll(k).includes(tagged(s)[k] ?? "")))
    return {stat: "cpu_used", step, source: ["raw"], series: found.map(s => ({tags: Object.fromEntries(by.filter(k => tagged(s)[k]).map(k => [k, tagged(s)[k]])), points: times.map((t, i) => [t, of.get("verb") === "count" && gone.includes(s) && t > now - 184 ? 0 : s[3] + (i % 3)])}))}
  })
  await page.route(url => url.pathname === "/live", route => {
    const url = new URL(route.request().url()), edge = url.searchParams.get("edge") ?? ""
    asked.push(url)
    const data = {relay: "web1", time: Date.now() * 1e6, readings: [{stat: "cpu_used", value: 34, tags: tagged([edge, "web1", "web"])}]}
    return route.fulfill({contentType: "text/event-stream", body: `id: ${Date.now()}\nevent: readings\ndata: ${JSON.stringify(data)}\n\n`})
  })
  return asked
}

export const scenarios = ({open, enter, accessible, shot, until, data, base}) => ({
  // What the view Edges says, in both colours and widths.
  async edges() {
    for (const [width, dark] of [[1280, false], [360, true]]) {
      const page = await open({width, dark})
      await hub(page)
      await enter(page, "edges")
      const card = name => page.getByRole("region", {name: `edge ${name}`, exact: true})
      const has = (name, ...texts) => Promise.all(texts.map(t => card(name).getByText(t).waitFor()))
      await has("ams1", /^connected for 3h 3m, since/, /The hub has all of its events, \d+(\.\d+)? a second/, "10.1.0.5:40122, Pulse 0.6.0, 120,345 events since this hub's start")
      await has("fra1", /^silent for 3m/, "The hub lacks 1,250 events up to then, and what came since: they wait at fra1.")
      await has("cust-7", /The hub lacks [\d,]+ events, which cust-7 hands over, \d+ a second: done in about 1m/, "Its clock is 4s behind this one", /^The hub will never get 1,500 events: 8,001–9,500 of the edge's journal, found .*: the edge's journal no longer held them/)
      await has("ship", "another Pulse uses this name, from 198.51.100.4:999: <b>rename</b> one of them", /^It began another history at its event 1, .*begun anew. The hub keeps what it had, up to event 5,000/, "Its clock is 1m 1s ahead of")
      await has("lab", "never connected", /^It has a token here. On the edge: --edge-name lab .*--hub-token … --hub-ca FILE/, "Refused 30s ago, from 10.3.0.1:7: its token is wrong")
      await until("no link to hosts of an edge that never was here", async () => (await card("lab").getByRole("link").count()) === 0)
      await has("old", "off: it has no token here any more")
      await page.getByText("6 edges, 3 connected, 1 silent, 1 never connected, 1 off").waitFor()
      assert.match(await page.locator(".edges h2").first().textContent(), /^fra1/) // what is worst comes first
      await page.getByRole("cell", {name: "ams2"}).waitFor()
      await page.getByRole("cell", {name: "no edge of this name has a token here"}).waitFor()
      await accessible(page, `edges at ${width}`)
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      assert.ok(wide <= 0, `edges is ${wide} px wider than a window of ${width}`)
      await shot(page, `edges-${width}`)
      await page.goto(`${base}/#/pipeline`)
      await page.getByText("Edges: 3 connected, 1 silent").waitFor()
      await page.context().close()
    }
  },

  // The same id at two edges is two hosts, in the list and on their pages.
  async edgehosts() {
    const page = await open(), asked = await hub(page), begin = Date.now()
    await enter(page)
    await page.getByText("8 hosts, 3 silent, 1 with high values").waitFor() // 2 of a silent edge, 1 at an edge
    const row = name => page.locator(".rows .row", {has: page.getByRole("link", {name, exact: true})})
    for (const [name, state, value] of [["web1", "ok", "11"], ["ams1/web1", "ok", "33"], ["cust-7/web1", "high", "95"], ["fra1/web1", "silent", "–"], ["fra1/db9", "silent", "–"], ["cust-7/till", "silent", "–"], ["ams1/cam<b>1", "ok", "44"]]) {
      await row(name).waitFor()
      assert.match(await row(name).textContent(), new RegExp(`^${state}.*${value}`), name)
    }
    const age = await row("fra1/db9").locator(".age").textContent(), [, m, s = 0] = age.match(/^(\d+)m(?: (\d+)s)?$/) ?? []
    assert.ok(m * 60 + Number(s) >= 183 && m * 60 + Number(s) < 187 + (Date.now() - begin) / 1000, `seen ${age} ago`) // not since the beginning of a minute
    await until("a line of the last hour", async () => (await row("ams1/web1").locator(".spark").count()) === 1)
    await accessible(page, "hosts of edges")
    await shot(page, "edgehosts-1280")
    await page.getByLabel("search hosts and tags").fill("edge:ams1")
    await page.getByText("2 of 8 hosts").waitFor()
    await page.getByLabel("search hosts and tags").fill("")
    await page.getByLabel("group by a tag").selectOption("edge")
    await page.getByText("edge:cust-7", {exact: true}).waitFor()
    await page.goto(`${base}/#/edges`)
    await page.getByRole("region", {name: "edge fra1"}).getByRole("link", {name: "hosts"}).click()
    await page.getByText("2 of 8 hosts").waitFor()
    await page.getByRole("button", {name: "hosts of all edges"}).click()
    await page.getByText("8 hosts, 3 silent").waitFor()

    for (const [link, edge] of [["ams1/web1", "ams1"], ["web1", ""]]) {
      await page.goto(`${base}/#/hosts`)
      await page.getByRole("link", {name: link, exact: true}).waitFor()
      asked.length = 0
      await page.getByRole("link", {name: link, exact: true}).click()
      await until("a plot", async () => Number(await data(page, "cpu_used", "last")) > 0)
      await page.getByText(/^connected, last reading/).waitFor()
      await until("the live stream", async () => asked.some(u => u.pathname === "/live"))
      const of = asked.filter(u => u.searchParams.getAll("host").includes("web1") && u.searchParams.getAll("host").length === 1)
      assert.deepEqual([...new Set(of.map(u => u.pathname))].sort(), ["/keys", "/live", "/range/cpu_used"])
      for (const u of of) assert.deepEqual(u.searchParams.getAll("edge"), [edge], u.href)
      assert.equal(await data(page, "cpu_used", "lines"), "1", "a line is of another host")
      assert.equal(await page.title(), `${link} – Pulse`)
      if (edge) await shot(page, "edgehost-1280")
      await page.getByRole("button", {name: "Explore"}).click()
      await page.locator(".chip", {hasText: `edge:${edge || "(none)"}`}).waitFor()
      await page.locator(".plot .u-over").first().waitFor()
    }
    await page.goto(`${base}/#/host/db9?edge=fra1`)
    await page.getByText(/edge fra1 is silent for 3m/).waitFor()
    // Once it is back, what it hands over late is drawn.
    await until("a plot", async () => Number(await data(page, "cpu_used", "last")) > 0)
    const whole = () => asked.filter(u => u.pathname === "/range/cpu_used" && u.searchParams.get("stop") === "0s").length, before = whole()
    await page.route(url => url.pathname === "/edges", route => route.fulfill({json: {refused: [], edges: [{...quiet, name: "fra1", state: "connected", since: ago(1), heard: ago(0), has: 90_000, last: 90_000, lacks: 0, events: 1}]}}))
    await until("the plot again", () => whole() > before)
  },

  // Fifty edges of twenty hosts. One is slow, and the list does not wait for it.
  async manyedges() {
    const page = await open(), n = 50, names = Array.from({length: n}, (_, i) => `site${String(i).padStart(2, "0")}`)
    await hub(page)
    let open_ = 0, most = 0
    await page.route(url => url.pathname === "/edges", route => route.fulfill({json: {refused: [], edges: names.map((name, i) => ({...quiet, name, state: i === 7 ? "silent" : "connected", since: ago(300 + i), heard: ago(i === 7 ? 300 : 0), address: `10.0.${i}.5:4000`, has: 1e6, last: 1e6, lacks: 0, events: 5}))}}))
    const ids = Array.from({length: 20}, (_, i) => `host${i}`)
    await page.route(url => url.pathname === "/relays" && url.searchParams.has("edge"), async route => {
      const edge = new URL(route.request().url()).searchParams.get("edge")
      most = Math.max(most, ++open_)
      if (edge === "site03") await new Promise(r => setTimeout(r, 8000))
      await route.fulfill({json: ids.map(id => relay(id, true, []))}).finally(() => open_--)
    })
    await page.route(url => url.pathname.startsWith("/latest/"), route => route.fulfill({json: names.filter((_, i) => i !== 7).flatMap(edge => ids.map(host => ({edge, host, time: Math.floor(Date.now() / 1000), value: 5})))}))
    const begin = Date.now()
    await enter(page)
    await page.getByText(/^982 hosts/).waitFor() // 49 × 20, and 2 here
    console.log(`the hosts of 50 edges listed after ${Date.now() - begin} ms`)
    assert.ok(Date.now() - begin < 8000, "it waits for the slow edge")
    assert.ok(most <= 3, `${most} edges are asked at once`)
    await page.goto(`${base}/#/edges`)
    await page.getByText("50 edges, 49 connected, 1 silent").waitFor()
    assert.match(await page.locator(".edges h2").first().textContent(), /^site07/)
    await shot(page, "manyedges-1280")
  },

  // What is for the relays of an edge is asked of the hub with the edge's name.
  async edgecontrol() {
    const page = await open({expected: text => /503/.test(text)})
    await hub(page)
    const sent = [], list = [{id: "o1", duration: 600, remaining: 300, collectors: {cpu: 1}, relays: ["web1"]}]
    await page.route(url => /^\/(overrides|relays\/)/.test(url.pathname), route => {
      const request = route.request(), url = new URL(request.url()), edge = url.searchParams.get("edge")
      if (request.method() !== "GET") sent.push([request.method(), url.pathname + url.search, request.postDataJSON()])
      if (edge === "fra1") return route.fulfill({status: 503, json: {error: "edge fra1 has had no link since 12:00; ask again when it is back"}})
      return route.fulfill({json: request.method() !== "GET" ? {id: "o2"} : edge === "cust-7" ? list : []})
    })
    await enter(page, "alerts/new")
    await until("groups of edges and hosts", async () => (await page.getByLabel("each by itself").inputValue()) === "edge,host")
    await page.goto(`${base}/#/alerts`)
    await page.getByText("Every host that is known is connected.").waitFor()
    await page.getByLabel("hosts and polls").selectOption("cust-7")
    await page.getByRole("cell", {name: "till"}).waitFor()
    assert.equal(await page.getByRole("button", {name: "Forget", exact: true}).count(), 0) // at the edge only
    await page.getByRole("button", {name: "End"}).click()
    await page.getByLabel("collector", {exact: true}).fill("host")
    await page.getByRole("button", {name: "Poll so"}).click()
    await until("what was sent", async () => sent.length === 2)
    assert.deepEqual(sent, [["DELETE", "/overrides/o1?edge=cust-7", null], ["POST", "/overrides", {duration: "10m", collectors: {host: "1s"}, edge: "cust-7"}]])
    await accessible(page, "alerts of a hub")
    await page.getByLabel("hosts and polls").selectOption("fra1")
    await page.getByText("edge fra1 has had no link since 12:00").waitFor()
    assert.equal(await page.getByRole("cell", {name: "till"}).count(), 0)
    await shot(page, "edgecontrol-1280")
  },

  // An edge shows its own link; a Pulse alone has nothing of all this.
  async uplink() {
    const page = await open()
    let link
    await enter(page, "pipeline")
    await page.getByText("No event of the journal is lost").waitFor()
    assert.equal(await page.getByRole("region", {name: "link to the hub"}).count(), 0)
    assert.equal(await page.getByRole("link", {name: "Edges"}).count(), 0)
    await page.goto(`${base}/#/edges`)
    await page.getByText("This Pulse is no hub").waitFor()

    await page.route(url => url.pathname === "/status", async route => route.fulfill({json: {...(await (await route.fetch()).json()), uplink: {edge: "ams1", hub: "hub.example.org:7422", ...link}}}))
    link = {state: "connected", since: ago(190), hub_release: "0.6.0 (commit abc, go1.26)", known: true, hub_has: 5000, last: 5000, lacks: 0, gaps: []}
    await page.goto(`${base}/#/pipeline`)
    const box = page.getByRole("region", {name: "link to the hub"})
    await box.getByText(/^connected for 3m/).waitFor()
    await box.getByText("The hub has all events of this journal, up to number 5,000.").waitFor()
    await box.getByText("This edge is ams1; the hub is hub.example.org:7422, Pulse 0.6.0.").waitFor()
    assert.equal(await page.getByRole("link", {name: "Edges"}).count(), 0)
    link = {state: "connecting", since: ago(75), known: true, hub_has: 5000, last: 6250, lacks: 1250, error: "dial tcp 10.0.0.1:7422: connection refused: look whether the hub runs, and at its --hub-listen-address",
      gaps: [{from: 100, to: 199, events: 100, time: ago(90), reason: "a block of the journal is damaged"}]}
    await box.getByText(/^not connected for 1m/).waitFor()
    await box.getByText("look whether the hub runs").waitFor()
    await box.getByText("The hub has this journal's events up to number 5,000 and lacks those up to number 6,250, which wait here.").waitFor()
    await box.getByText("The hub will never get 100 events: 100–199 of the edge's journal").waitFor()
    await accessible(page, "an edge's pipeline")
    await shot(page, "uplink-1280")
    link = {state: "refused", since: ago(5), known: false, hub_has: 0, last: 6250, lacks: 0, error: "the hub has no token for ams1: add it to \"edges\" there", notice: "another Pulse uses this name"}
    await box.getByText(/^refused by the hub/).waitFor()
    await box.getByText("another Pulse uses this name").waitFor()
    await box.getByText("What the hub has is not known: there was no link since this start.").waitFor()
  },
})
