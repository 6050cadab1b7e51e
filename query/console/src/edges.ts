import {get, isHub, type Edge, type EdgeGap, type Edges} from "./api"
import {ago, clock, events, exact, moment, number, span} from "./format"
import {href} from "./route"
import {every, fill, h, notice, sparkline} from "./ui"
import type {View} from "./main"

// Pace is what this page has seen of an edge: how many events the hub has of it and lacks, each time
// that it asked.
interface Pace {at: number; has: number; lacks: number}

// edges shows what is happening at the edges of this hub, those with troubles first.
export async function edges({root, signal}: View): Promise<void> {
  const says = h("div", {}), summary = h("p", {class: "summary", role: "status"}), cards = h("div", {class: "edges"}), refused = h("div", {})
  fill(root, h("h1", {}, "Edges"), h("div", {class: "bar"}, summary), says, cards, refused)
  if (!(await isHub())) return fill(says, h("p", {class: "empty"}, "This Pulse is no hub: it has no --hub-listen-address."))
  const paces = new Map<string, Pace[]>()
  await every(2000, signal, async () => {
    try {
      const answer = await get<Edges>("/edges", [], signal), all = answer.edges ?? []
      for (const e of all) paces.set(e.name, [...(paces.get(e.name) ?? []).slice(-89), {at: performance.now() / 1000, has: e.has, lacks: e.lacks}])
      const rank = (e: Edge) => (e.state === "off" ? 4 : e.state === "silent" || e.notice ? 0 : troubled(e) ? 1 : e.state === "never" ? 2 : 3)
      all.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1))
      const of = (state: Edge["state"]) => all.filter(e => e.state === state).length
      const parts = [`${all.length} ${all.length === 1 ? "edge" : "edges"}`, `${of("connected")} connected`, of("silent") ? h("strong", {class: "bad"}, `${of("silent")} silent`) : null, of("never") ? `${of("never")} never connected` : null, of("off") ? `${of("off")} off` : null].filter(p => p !== null)
      fill(summary, all.length === 0 ? null : parts.map((p, i) => [i ? ", " : "", p]))
      fill(says, all.length ? null : h("p", {class: "empty"}, "No edge is known yet. An edge has a name and a token here, in ", h("code", {}, "\"edges\": {\"ams1\": {\"token\": \"…\"}}"), " of the config file or in ", h("code", {}, "--edges ams1=…"), ". It connects with ", h("code", {}, "--edge-name"), ", ", h("code", {}, "--hub-address"), ", ", h("code", {}, "--hub-token"), " and, unless it trusts this hub's certificate anyway, ", h("code", {}, "--hub-ca"), "."))
      fill(cards, all.map(e => card(e, paces.get(e.name) ?? [])))
      fill(refused, answer.refused?.length ? [h("h2", {}, "Refused: names without a token here"),
        h("p", {class: "dim"}, "To let one in, give its name a token in \"edges\" of the config file or in --edges, and reload (SIGHUP). It tries again by itself."),
        h("div", {class: "table"}, h("table", {}, h("thead", {}, h("tr", {}, ["name", "newest attempt", "from", "why"].map(t => h("th", {}, t)))),
          h("tbody", {}, answer.refused.map(r => h("tr", {}, h("td", {}, h("strong", {}, r.name)), h("td", {}, `${span(ago(r.time))} ago`), h("td", {}, r.address), h("td", {}, r.reason))))))] : null)
    } catch (e) {
      if (!signal.aborted) fill(says, notice((e as Error).message))
    }
  })
}

const offset = (e: Edge): number => (Math.abs(e.clock_offset ?? 0) > 1 ? e.clock_offset! : 0)
// recent is whether something is worth attention: it was within a day.
const recent = (x: {time: string}): boolean => ago(x.time) < 86_400
// refusedSince is the newest refusal under an edge's name, unless the edge was let in after it.
const refusedSince = (e: Edge) => (e.refused && (e.state !== "connected" || ago(e.refused.time) < ago(e.since)) ? e.refused : null)
const troubled = (e: Edge): boolean => Boolean(e.notice || refusedSince(e) || e.gaps?.some(recent) || e.begun?.some(recent) || offset(e))

function card(e: Edge, pace: Pace[]): HTMLElement {
  const refused = refusedSince(e)
  const look = e.state === "silent" || e.notice ? "silent" : e.state === "connected" ? (troubled(e) ? "late" : "ok") : "none"
  return h("section", {class: `box${look === "silent" ? " failing" : ""}`, "aria-label": `edge ${e.name}`},
    h("h2", {}, h("span", {class: `dot ${look}`}), e.name, " ", e.state === "never" ? null : h("a", {class: "small", href: href(["hosts"], {edge: e.name})}, "hosts")),
    h("p", {class: e.state === "silent" ? "bad" : ""}, h("strong", {}, state(e))),
    behind(e, pace),
    e.notice ? notice(e.notice) : null,
    refused ? h("p", {class: recent(refused) ? "bad" : "dim"}, `Refused ${span(ago(refused.time))} ago, from ${refused.address}: ${refused.reason}`) : null,
    offset(e) ? h("p", {class: "warn"}, `Its clock is ${span(Math.abs(offset(e)))} ${offset(e) > 0 ? "ahead of" : "behind"} this one: its readings have the times of its clock.`) : null,
    gapsOf(e.gaps),
    (e.begun ?? []).slice(-3).reverse().map(b => h("p", {class: recent(b) ? "warn" : "dim"}, `It began another history at its event ${exact(b.at)}, at ${clock(moment(b.time) ?? 0)}: ${b.reason}. The hub keeps what it had, up to event ${exact(b.kept)}.`)),
    h("p", {class: "dim"}, [e.address, e.release && `Pulse ${e.release.split(" ")[0]}`, e.events ? `${events(e.events)} since this hub's start` : ""].filter(t => t).join(", ")))
}

// state is an edge's state in words.
function state(e: Edge): string {
  const since = moment(e.since), lasts = since === undefined ? "" : ` for ${span(ago(e.since))}, since ${clock(since)}`
  switch (e.state) {
    case "connected": return "connected" + lasts
    case "silent": return "silent" + lasts
    case "never": return "never connected"
    case "off": return "off: it has no token here any more"
  }
}

// behind is what the hub lacks of an edge, and where that is.
function behind(e: Edge, pace: Pace[]): HTMLElement | null {
  switch (e.state) {
    case "connected": {
      const old = pace.at(-6) ?? pace[0], now = pace.at(-1), seconds = old && now ? now.at - old.at : 0
      const rate = seconds > 0 ? Math.max(0, (now!.has - old!.has) / seconds) : 0, gain = seconds > 0 ? (old!.lacks - now!.lacks) / seconds : 0
      const line = pace.some(p => p.lacks > 0) ? sparkline(pace.map(p => p.lacks)) : null
      if (e.lacks === 0) return h("p", {class: "good"}, `The hub has all of its events${rate ? `, ${number(rate)} a second` : ""}. `, line)
      return h("p", {class: e.lacks > 1000 ? "warn" : ""}, `The hub lacks ${events(e.lacks)}, which ${e.name} hands over${rate ? `, ${number(rate)} a second` : ""}${gain > 0 && e.lacks > 1000 ? `: done in about ${span(e.lacks / gain)}` : ""}. `, line)
    }
    case "silent": return h("p", {}, e.lacks ? `The hub lacks ${events(e.lacks)} up to then, and what came since: they wait at ${e.name}.` : `The hub has all events up to then. What came since waits at ${e.name}.`)
    case "never": return h("p", {}, "It has a token here. On the edge: ", h("code", {}, `--edge-name ${e.name} --hub-address THIS-HOST:PORT --hub-token … --hub-ca FILE`), ". FILE is this hub's certificate; leave it out if the edge trusts its authority.")
    case "off": return h("p", {}, "It is left off until it has one again. What it has handed over stays.")
  }
}

// gapsOf says which events of an edge's journal the hub will not have, the newest gaps first.
export function gapsOf(gaps: EdgeGap[] | null | undefined): HTMLElement[] {
  const all = gaps ?? [], shown = all.slice(-5).reverse()
  const lines = shown.map(g => h("p", {class: recent(g) ? "bad" : "dim"}, `The hub will never get ${events(g.events)}: ${exact(g.from)}–${exact(g.to)} of the edge's journal, found ${clock(moment(g.time) ?? 0)}: ${g.reason}`))
  if (all.length > shown.length) lines.push(h("p", {class: "dim"}, `and ${exact(all.length - shown.length)} older gaps: ${events(all.reduce((n, g) => n + g.events, 0))} in all`))
  return lines
}
