import {hasToken, isHub, onState, passing, setToken} from "./api"
import {placed, setUTC, utc} from "./format"
import {alerts} from "./alerts"
import {edges} from "./edges"
import {explore} from "./explore"
import {host} from "./host"
import {hosts} from "./hosts"
import {pipeline} from "./pipeline"
import {current, href, type Route} from "./route"
import {button, fill, h, notice, sleep} from "./ui"

export interface View {root: HTMLElement; route: Route; signal: AbortSignal}

const views: Record<string, {title: string; show: (v: View) => void | Promise<void>}> = {
  hosts: {title: "Hosts", show: hosts},
  edges: {title: "Edges", show: edges}, // of a hub only
  explore: {title: "Explore", show: explore},
  pipeline: {title: "Pipeline", show: pipeline},
  alerts: {title: "Alerts", show: alerts},
  host: {title: "Host", show: host},
}

const app = document.getElementById("app")!
const banner = h("div", {class: "banner", role: "status", hidden: true})
const nav = h("nav", {"aria-label": "views"})
const content = h("main", {id: "content", tabindex: "-1"})
const zone = button("", () => { setUTC(!utc()); show() }, "quiet")
const leave = button("Forget token", () => { setToken(""); show() }, "quiet")
app.append(h("a", {class: "skip", href: "#content", onclick: (e: Event) => { e.preventDefault(); content.focus() }}, "Skip to the content"),
  h("header", {}, h("a", {class: "brand", href: "#/hosts"}, "Pulse"), nav, h("div", {class: "tools"}, zone, leave)), banner, content)

onState((state, text) => {
  banner.hidden = state !== "away"
  banner.textContent = state === "away" ? text : ""
  if (state === "token") login(text)
})

let running: AbortController | null = null
let known = false // whether this Pulse is known to be a hub

// takeToken takes the token that `pulse -s` prints with the address, and keeps it out of the history.
function takeToken(): void {
  const given = /^#token=(.+)$/.exec(location.hash)
  if (!given) return
  let token = given[1]!
  try {
    token = decodeURIComponent(token)
  } catch { /* it is as it was typed */ }
  setToken(token)
  history.replaceState(null, "", location.pathname + "#/hosts")
}

function show(): void {
  takeToken()
  running?.abort()
  running = new AbortController()
  zone.textContent = utc() ? "Times in UTC" : "Times are local"
  zone.title = "Switch between your time zone and UTC"
  leave.hidden = !hasToken()
  const route = current(), name = route.path[0] ?? "hosts", view = views[name]
  const links = (hub: boolean) => fill(nav, Object.entries(views).filter(([key]) => key !== "host" && (hub || key !== "edges")).map(([key, v]) =>
    h("a", {href: href([key]), "aria-current": key === name || (name === "host" && key === "hosts") ? "page" : undefined}, v.title)))
  links(known)
  if (!hasToken()) return login("")
  document.title = `${name === "host" ? placed(route.params.get("edge") ?? "", route.path[1] ?? "Host") : view?.title ?? "Pulse"} – Pulse`
  fill(content)
  if (!view) return fill(content, notice(`There is no view "${name}".`), h("a", {href: "#/hosts"}, "To the hosts"))
  const signal = running.signal
  isHub().then(hub => {
    if (hub !== known && !signal.aborted) links(hub)
    known = hub
  }, () => {}) // the view says that the server is away
  Promise.resolve(view.show({root: content, route: {...route, path: route.path.length ? route.path : ["hosts"]}, signal})).catch(async (e: Error) => {
    if (signal.aborted) return
    content.prepend(notice(e.message))
    if (!passing(e)) return
    await sleep(2000, signal)
    if (!signal.aborted) show()
  })
}

// login asks for the token.
function login(text: string): void {
  running?.abort()
  document.title = "Pulse"
  leave.hidden = !hasToken()
  const input = h("input", {type: "password", autocomplete: "off", id: "token", required: true})
  fill(content, h("form", {class: "login", onsubmit: (e: Event) => {
    e.preventDefault()
    setToken(input.value)
    show()
  }},
    h("h1", {}, "Pulse"),
    text ? notice(text) : null,
    h("label", {for: "token"}, "Token"), input, h("button", {class: "main"}, "Look"),
    h("p", {class: "dim"}, "It is the server's --token, or its --read-token: in its config file, in PULSE_TOKEN, or \"secret\" if nobody set one. This page keeps it until the tab is closed.")))
  input.focus()
}

addEventListener("hashchange", () => {
  show()
  // What had the focus is gone with its view: a keyboard goes on in the new one.
  if (document.activeElement === document.body) content.focus({preventScroll: true})
})
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show)
show()
