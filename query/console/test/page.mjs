// Drives the page in a real browser. A Go test starts the server, runs this with the name of a
// scenario and the server's address, and does what the scenario asks for on its standard output.
import {chromium} from "playwright-core"
import {readFile} from "node:fs/promises"
import {createInterface} from "node:readline"
import assert from "node:assert/strict"
import {scenarios as edgeScenarios} from "./edges.mjs"

const [scenario, base, token, readToken, shots] = process.argv.slice(2)
const answers = createInterface({input: process.stdin})[Symbol.asyncIterator]()

// outside has the Go test do something, and waits until it is done.
async function outside(what) {
  console.log("do " + what)
  const {value, done} = await answers.next()
  if (done || value !== "done") throw new Error(`${what}: ${value}`)
}

// launch starts the browser, which now and then crashes at its start on a busy machine.
async function launch(tries = 3) {
  try {
    return await chromium.launch({executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]})
  } catch (e) {
    if (tries === 1) throw e
    console.log(`the browser did not start: ${String(e).slice(0, 100)}`)
    return launch(tries - 1)
  }
}

const browser = await launch()
const troubles = []

// open is a page that is watched: an error of it, or a request to anywhere else, fails the test.
async function open({width = 1280, dark = false, expected = () => false, timezoneId} = {}) {
  const context = await browser.newContext({viewport: {width, height: 800}, colorScheme: dark ? "dark" : "light", timezoneId, acceptDownloads: true, permissions: ["clipboard-read", "clipboard-write"]})
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  page.on("pageerror", e => troubles.push("error: " + e.message))
  page.on("console", m => { if (["error", "warning"].includes(m.type()) && !expected(m.text())) troubles.push(`console: ${m.text()}`) })
  page.on("dialog", d => d.type() === "confirm" ? d.accept() : (troubles.push("dialog: " + d.message()), d.dismiss()))
  page.on("request", r => { if (!r.url().startsWith(base + "/") && !/^(data|blob):/.test(r.url())) troubles.push("request elsewhere: " + r.url()) })
  return page
}

// enter opens a view with the token, as the greeting's address does.
async function enter(page, view = "hosts", with_ = token) {
  await page.goto(`${base}/#token=${encodeURIComponent(with_)}`)
  await page.waitForSelector("nav a")
  await page.goto(`${base}/#/${view}`)
}

const axe = await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8")
async function accessible(page, what) {
  await page.evaluate(axe) // by the browser's tools, which no policy of the page stops
  const {violations} = await page.evaluate(() => window.axe.run(document, {resultTypes: ["violations"]}))
  assert.deepEqual(violations.map(v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 120)).join(" | ")}`), [], `${what}: axe`)
}

const shot = (page, name) => page.screenshot({path: `${shots}/${name}.png`})
const drawn = (page, title) => page.locator(".plot", {hasText: title}).first().locator(".canvas")
const data = async (page, title, name) => (await drawn(page, title).getAttribute("data-" + name)) ?? ""
async function until(what, f, ms = 60_000) {
  for (const end = Date.now() + ms; ;) {
    const got = await f()
    if (got) return got
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise(r => setTimeout(r, 50))
  }
}
// drag selects a part of a plot, in shares of its width.
async function drag(page, title, from, to) {
  const box = await page.locator(".plot", {hasText: title}).first().locator(".u-over").boundingBox()
  await page.mouse.move(box.x + box.width * from, box.y + box.height / 2)
  await page.mouse.down()
  await page.mouse.move(box.x + box.width * (from + to) / 2, box.y + box.height / 2, {steps: 4})
  await page.mouse.move(box.x + box.width * to, box.y + box.height / 2, {steps: 4})
  await page.mouse.up()
}

const refused = text => /40[13]/.test(text)
const away = text => /ERR_|Failed to (fetch|load)|50\d/.test(text)

const scenarios = {
  ...edgeScenarios({open, enter, accessible, shot, until, data, base}),
  async tokens() {
    const page = await open({expected: refused})
    await page.goto(base + "/")
    await page.getByText("It is the server's --token").waitFor()
    await accessible(page, "the question for the token")
    await page.getByLabel("Token").fill("wrong")
    await page.getByRole("button", {name: "Look"}).click()
    await page.getByText("The server does not take this token.").waitFor()
    await page.getByLabel("Token").fill(token)
    await page.getByRole("button", {name: "Look"}).click()
    await page.getByRole("link", {name: "web1"}).waitFor()
    await page.getByRole("button", {name: "Forget token"}).click()
    await page.getByLabel("Token").waitFor()

    await enter(page)
    await page.getByRole("link", {name: "web1"}).waitFor()
    assert.ok(!page.url().includes(token), "the address holds the token")
    const kept = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, String(history.length)])
    assert.ok(!kept.join().includes(token), "the token is kept for longer than the session")
    await page.goBack().catch(() => {})
    assert.ok(!page.url().includes(token), "the history holds the token")

    await page.evaluate(() => sessionStorage.clear())
    await enter(page, "alerts/new", readToken)
    await page.reload()
    await page.getByText("It would have posted").waitFor()
    await page.getByLabel("post to").fill("http://127.0.0.1:9/x")
    await page.getByRole("button", {name: "Make the alert"}).click()
    await page.getByText("this token only reads").waitFor()
  },

  async views() {
    for (const [width, dark] of [[1280, false], [360, true]]) {
      const page = await open({width, dark})
      await enter(page)
      await page.getByRole("link", {name: "web1"}).waitFor()
      await page.locator(".spark").first().waitFor({state: "attached"})
      for (const view of ["hosts", "host/web1?range=1h", "explore?by=host&range=1h&f.service=web", "pipeline?range=1h", "alerts", "alerts/new"]) {
        await page.goto(`${base}/#/${view}`)
        await page.locator("h1").first().waitFor()
        if (/host\/|explore|pipeline|new/.test(view)) await page.locator(".plot .u-over").first().waitFor()
        else if (view === "alerts") await page.getByText("There is no alert yet.").waitFor()
        if (view === "hosts") await page.locator(".row.ok").first().waitFor()
        await accessible(page, `${view} at ${width}`)
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
        assert.ok(wide <= 0, `${view} is ${wide} px wider than a window of ${width}`)
        await shot(page, `${view.replace(/\W.*/, view.endsWith("new") ? "-new" : "")}-${width}`)
      }
      await page.goto(`${base}/#/hosts`)
      await until("the focus in the new view", () => page.evaluate(() => document.activeElement?.id === "content"))
      await page.reload()
      await page.locator(".row.ok").first().waitFor()
      await page.keyboard.press("Tab")
      await page.keyboard.press("Enter") // skip to the content
      assert.equal(await page.evaluate(() => document.activeElement?.id), "content")
      await page.getByLabel("search hosts and tags").fill("service:shop")
      await until("the search", async () => (await page.locator(".rows .row").count()) === 3)
      await page.context().close()
    }
  },

  async zoom() {
    const page = await open()
    await enter(page, "host/web1?range=6h")
    await page.waitForFunction(() => document.querySelector(".plot .canvas")?.dataset.points > 0)
    // Click to first plot, with what the page has already.
    await page.goto(`${base}/#/hosts`)
    const link = page.getByRole("link", {name: "web1"})
    await link.waitFor()
    const begin = Date.now()
    await link.click()
    await page.locator(".plot .u-over").first().waitFor()
    console.log(`first plot after ${Date.now() - begin} ms`)
    await page.goto(`${base}/#/host/web1?range=6h`)
    const coarse = Number(await until("a plot of six hours", () => data(page, "cpu_used", "step")))
    await drag(page, "cpu_used", 0.9, 0.99)
    await until("a finer plot", async () => Number(await data(page, "cpu_used", "step")) < coarse && /from=\d+&to=\d+|to=\d+&from=\d+/.test(page.url()))
    const address = page.url()
    await page.goBack()
    await until("the view before", async () => Number(await data(page, "cpu_used", "step")) === coarse)
    await page.goto(address) // the address is the view
    await until("the zoomed view", async () => Number(await data(page, "cpu_used", "step")) < coarse)

    await page.goto(`${base}/#/explore?by=host&range=15m&verb=p90`)
    await until("percentiles", async () => Number(await data(page, "p90 of cpu_used", "lines")) >= 2)
    await page.getByRole("button", {name: "Copy as curl"}).click()
    const curl = await page.evaluate(() => navigator.clipboard.readText())
    assert.ok(curl.includes("$TOKEN") && !curl.includes(token) && curl.includes("verb=p90") && curl.includes("by=host"), curl)
    await page.getByRole("button", {name: "Copy as InfluxQL"}).click()
    const statement = await page.evaluate(() => navigator.clipboard.readText())
    assert.match(statement, /^SELECT percentile\("cpu_used", 90\) FROM .* GROUP BY time\(\d+s\), "host"/)
    const influx = await (await page.request.post(base + "/query", {headers: {"X-AUTH-TOKEN": token}, form: {q: statement}})).json()
    assert.ok(influx.results[0].series.length >= 2 && influx.results[0].series[0].values.some(v => v[1] !== null), JSON.stringify(influx).slice(0, 300))
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", {name: "CSV"}).click()])
    const text = await readFile(await file.path(), "utf8")
    assert.match(text, /^time,host,cpu_used\n\d{4}-/)

    // A range that is typed is in the zone that the page shows.
    const elsewhere = await open({timezoneId: "America/New_York"})
    await enter(elsewhere, "host/web1?range=1h")
    for (const [zone, hours] of [["from (local time)", 5], ["from (UTC)", 0]]) {
      await elsewhere.getByRole("button", {name: "Own range"}).click()
      await elsewhere.getByLabel(zone).fill("2026-01-10T08:00")
      await elsewhere.getByLabel("to", {exact: true}).fill("2026-01-10T09:00")
      await elsewhere.getByRole("button", {name: "Show"}).click()
      await until("the range", async () => elsewhere.url().includes(`from=${Date.UTC(2026, 0, 10, 8 + hours) / 1000}`))
      await elsewhere.getByText("There are no readings of this host in this time.").waitFor()
      if (hours) await elsewhere.getByRole("button", {name: "Times are local"}).click()
    }
  },

  // The server is killed while a host is looked at, and comes back: the plot goes on without a hole.
  async restart() {
    const page = await open({expected: away})
    await enter(page, "host/web1?range=15m")
    await page.getByText("live", {exact: true}).waitFor()
    const last = async () => Number(await data(page, "cpu_used", "last"))
    const before = await until("readings", last)
    await until("live readings", async () => (await last()) > before)
    const other = await open({expected: away})
    await enter(other)
    await other.getByRole("link", {name: "web2"}).waitFor()
    await outside("kill")
    await page.getByText("The server does not answer.").waitFor()
    await other.goto(`${base}/#/explore?range=15m&by=host`) // a view that is opened meanwhile
    await other.locator(".notice", {hasText: "the server does not answer"}).waitFor()
    await outside("start")
    await other.locator(".plot .u-over").first().waitFor()
    const again = await last()
    await until("the banner to go", async () => !(await page.locator(".banner").isVisible()))
    await until("readings after the restart", async () => (await last()) > again + 3)
    const holes = await data(page, "cpu_used", "holes")
    for (const hole of holes.split(" ").filter(h => h)) {
      const [a, b] = hole.split("-").map(Number)
      assert.ok(b - a < 20, `a hole of ${b - a} s in ${holes}`) // while the server was away, nothing was polled
    }
  },

  // InfluxDB is away: one sees the lag grow, and then the hole close.
  async outage() {
    const page = await open({expected: away})
    await enter(page, "pipeline?range=15m")
    const points = async () => Number(await data(page, "Readings that InfluxDB holds", "points"))
    await until("what is held", points)
    await outside("away")
    await page.getByText(/\d+ events wait, the oldest for/).first().waitFor()
    await page.getByText("InfluxDB does not answer").waitFor()
    await outside("back")
    await until("the hole to close", async () => (await page.getByText("up to date").count()) >= 4 && (await data(page, "Readings that InfluxDB holds", "holes")) === "", 60_000)
  },

  async replay() {
    const page = await open()
    await enter(page, "pipeline?range=15m")
    const first = async () => Number(await data(page, "Readings that InfluxDB holds", "first"))
    const before = await until("what is held", first)
    await outside("hole")
    await until("a hole", async () => (await first()) > before)
    await drag(page, "Readings that InfluxDB holds", 0.02, 0.999)
    await page.getByRole("button", {name: "Replay", exact: true}).click()
    await page.getByText("done").first().waitFor()
    await until("what was lost to be drawn again", async () => (await first()) === before)
  },

  async alert() {
    const page = await open()
    await enter(page, "alerts/new")
    await page.getByLabel("threshold", {exact: true}).fill("-1")
    await page.getByLabel("as a mean over").fill("5s")
    await page.getByLabel("looked at every").fill("1s")
    await page.getByText(/It would have posted \d+ times/).waitFor()
    await page.getByText(/\[web1\] cpu_used is CRITICAL/).first().waitFor()
    await shot(page, "alert-1280")
    await page.getByLabel("post to").fill("http://127.0.0.1:9/x?<b>=1")
    await page.getByRole("button", {name: "Make the alert"}).click()
    await page.getByText("http://127.0.0.1:9/x?<b>=1").waitFor()
    await page.getByText(/\d of \d fire/).waitFor()
    await page.getByRole("button", {name: "Open"}).click()
    await page.getByRole("button", {name: "Delete"}).click()
    await page.getByText("There is no alert yet.").waitFor()
    await page.getByLabel("collector", {exact: true}).fill("host")
    await page.getByRole("button", {name: "Poll so"}).click()
    await page.getByRole("button", {name: "End"}).click()
    await outside("silence")
    await page.getByRole("button", {name: "Forget", exact: true}).click()
    await page.getByText("Every host that is known is connected.").waitFor()
  },

  // A unit that the relay says is in titles and figures; one that is text for a browser is only text.
  async units() {
    const page = await open()
    await enter(page, "host/web1")
    await page.locator(".plot figcaption", {hasText: "room_temp °C"}).waitFor()
    await page.locator(".plot figcaption", {hasText: "cpu_used %"}).waitFor()
    await enter(page, "explore?stat=room_temp&f.host=web1")
    await page.locator("td", {hasText: /^1 °C$/}).first().waitFor()
    await enter(page, "explore?stat=room_temp&verb=count&f.host=web1")
    await page.locator("td", {hasText: /^[\d,]+$/}).first().waitFor()
    await enter(page, "host/odd")
    await page.locator(".plot figcaption", {hasText: "odd <img src=x onerror=window.hit=1>"}).waitFor()
    assert.equal(await page.evaluate(() => window.hit), undefined, "a unit is run")
  },

  // A fleet of 10,000, of which the browser is told by the test.
  async large() {
    const n = 10_000, page = await open(), id = i => "host" + String(i).padStart(5, "0")
    const answer = body => route => route.fulfill({contentType: "application/json", body: JSON.stringify(body)})
    const all = Array.from({length: n}, (_, i) => i), now = Math.floor(Date.now() / 1000)
    await page.route("**/relays", answer(all.map(i => ({id: id(i), connected: i !== 5000, last_seen: new Date().toISOString(), collectors: [{name: "cpu", tags: [`rack:${i % 40}`], interval: 10}], polls: 1, unanswered: 0, skipped: 0, rejected: 0, replaced: 0}))))
    await page.route("**/keys", answer(["cpu_used", "ram_used", "disk_used", "load_1", "net_in", "net_out"]))
    await page.route("**/range/*", answer({stat: "", step: 60, source: [], series: []}))
    await page.route("**/latest/*", answer(all.map(i => ({host: id(i), time: now, value: (i * 7) % 100}))))
    const begin = Date.now()
    await enter(page)
    await page.getByText("10000 hosts").waitFor()
    await page.getByText("1 silent").waitFor()
    console.log(`10000 hosts listed after ${Date.now() - begin} ms`)
    assert.match(await page.locator(".rows .row").first().textContent(), /silenthost05000/)
    assert.ok(await page.locator(".rows .row").count() < 60, "rows that are not seen are in the page")
    const slow = await page.evaluate(async () => {
      const list = document.querySelector(".scroller")
      let slowest = 0
      for (let y = 0; y < list.scrollHeight; y += 7001) {
        list.scrollTop = y
        const t = performance.now()
        await new Promise(requestAnimationFrame)
        slowest = Math.max(slowest, performance.now() - t)
      }
      list.scrollTop = list.scrollHeight
      return slowest
    })
    console.log(`the slowest of 58 frames took ${slow.toFixed(0)} ms`)
    await page.getByRole("link", {name: id(n - 1)}).waitFor()
    await page.getByLabel("group by a tag").selectOption("rack")
    await page.getByText("rack:0", {exact: true}).waitFor({state: "attached"})
  },

  // Names of every awkward kind are text, wherever they are drawn.
  async hostile() {
    const page = await open({expected: text => /40[04]/.test(text)})
    await enter(page)
    await page.getByText("<svg/onload=window.hit=1>", {exact: true}).waitFor()
    await page.getByText("1 host, connected", {exact: true}).waitFor()
    for (const view of ["hosts?group=rack", "host/" + encodeURIComponent("<svg/onload=window.hit=1>"), "explore?stat=" + encodeURIComponent("<img/src=x/onerror=window.hit=1>") + "&by=rack,host", "pipeline", "alerts",
      "alerts/new", "explore?stat=%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E&f.%3Cb%3E=%3Cb%3E", "<svg/onload=window.hit=1>", "alerts/%3Csvg%20onload=window.hit=1%3E", "host/%", "explore?range=<b>&from=x"]) {
      await page.goto(`${base}/#/${view}`)
      await page.locator("h1, .notice").first().waitFor()
      await page.waitForLoadState("networkidle").catch(() => {}) // a live stream keeps it busy
      assert.equal(await page.evaluate(() => window.hit), undefined, view)
      assert.equal(await page.locator("main svg[onload], main img, main b").count(), 0, view)
    }
    // What is copied stays one argument of a shell.
    await page.goto(`${base}/#/explore?range=15m&f.rack=${encodeURIComponent("it's; $(x) `x`")}`)
    await page.getByRole("button", {name: "Copy as curl"}).click()
    await page.getByText("curl copied").waitFor()
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^curl -H "X-AUTH-TOKEN: \$TOKEN" '[^']*it%27s[^']*'$/)
    // Another origin has no use of the visitor's token, and cannot frame the page.
    const answer = await page.request.get(base + "/", {headers: {Accept: "text/html"}})
    assert.match(answer.headers()["content-security-policy"], /default-src 'none'.*frame-ancestors 'none'/)
    assert.ok(!/unsafe|https?:/.test(answer.headers()["content-security-policy"]))
    assert.deepEqual(await page.context().cookies(), [])
  },
}

try {
  await scenarios[scenario]()
  assert.deepEqual(troubles, [])
  console.log("ok")
} catch (e) {
  console.log(`failed: ${e.stack ?? e}\n${troubles.join("\n")}`)
  process.exitCode = 1
} finally {
  await browser.close()
  process.exit()
}
