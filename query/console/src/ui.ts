// Elements without a framework. Whatever comes from the server becomes text, never markup.

export type Child = Node | string | number | null | undefined | false | Child[]
type Props = Record<string, unknown>

// h makes an element: on... are listeners, `value` and booleans are properties, the rest attributes.
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props?: Props | null, ...children: Child[]): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag)
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value as EventListener)
    else if (key === "value" || typeof value === "boolean") (e as unknown as Props)[key] = value
    else e.setAttribute(key, String(value))
  }
  add(e, children)
  return e
}

function add(e: Node, children: Child[]): void {
  for (const c of children) {
    if (Array.isArray(c)) add(e, c)
    else if (c instanceof Node) e.appendChild(c)
    else if (c !== null && c !== undefined && c !== false) e.appendChild(document.createTextNode(String(c)))
  }
}

// fill replaces what an element holds.
export function fill(e: Element, ...children: Child[]): void {
  e.replaceChildren()
  add(e, children)
}

// svg makes an SVG element with attributes.
export function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag)
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, String(value))
  e.append(...children)
  return e
}

// sparkline draws values over time; null is a gap.
export function sparkline(values: (number | null)[], width = 96, height = 24): SVGElement {
  const known = values.filter((v): v is number => v !== null)
  const low = Math.min(...known), high = Math.max(...known), span = high - low || 1
  let path = "", pen = false
  values.forEach((v, i) => {
    if (v === null) return void (pen = false)
    const x = (i * (width - 2)) / Math.max(1, values.length - 1) + 1
    const y = height - 2 - ((v - low) * (height - 4)) / span
    path += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${pen ? "" : "h.1"}`
    pen = true
  })
  return svg("svg", {class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true"}, svg("path", {d: path}))
}

// field is a labelled control.
export function field(label: string, control: HTMLElement, note?: string): HTMLElement {
  return h("label", {class: "field"}, h("span", {}, label), control, note ? h("small", {}, note) : null)
}

export function select(options: [value: string, text: string][], value: string, onchange: (v: string) => void, label?: string): HTMLSelectElement {
  const e = h("select", {"aria-label": label, onchange: () => onchange(e.value)}, options.map(([v, text]) => h("option", {value: v}, text)))
  e.value = value
  return e
}

export function button(text: string, onclick: () => void, kind = ""): HTMLButtonElement {
  return h("button", {type: "button", class: kind, onclick}, text)
}

// notice is a line that says what happened; an alert is read out.
export function notice(text: string, kind: "error" | "info" = "error"): HTMLElement {
  return h("p", {class: `notice ${kind}`, role: kind === "error" ? "alert" : "status"}, text)
}

// every calls f now and then each ms after it has ended, until signal.
export async function every(ms: number, signal: AbortSignal, f: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    if (!document.hidden) await f()
    await sleep(ms, signal)
  }
}

export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(done => {
    if (signal.aborted) return done()
    const end = () => { clearTimeout(timer); signal.removeEventListener("abort", end); done() }
    const timer = setTimeout(end, ms)
    signal.addEventListener("abort", end)
  })
}
