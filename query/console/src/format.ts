// Numbers, units and times as a person reads them.

const zone = "pulse-zone"
export const utc = (): boolean => localStorage.getItem(zone) === "utc"
export function setUTC(on: boolean): void { localStorage.setItem(zone, on ? "utc" : "local") }

const inZone = (o: Intl.DateTimeFormatOptions): Intl.DateTimeFormatOptions => (utc() ? {...o, timeZone: "UTC"} : o)

// clock is a moment: the time, and the day if it is not today.
export function clock(seconds: number, withSeconds = true): string {
  const d = new Date(seconds * 1000)
  const date = new Intl.DateTimeFormat("en-CA", inZone({year: "numeric", month: "2-digit", day: "2-digit"}))
  const time = new Intl.DateTimeFormat("en-GB", inZone({hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(withSeconds ? {second: "2-digit"} : {})})).format(d)
  return date.format(d) === date.format(new Date()) ? time : `${date.format(d)} ${time}`
}

// span is a length of time in its two largest units.
export function span(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–"
  const units: [number, string][] = [[86400 * 7, "w"], [86400, "d"], [3600, "h"], [60, "m"], [1, "s"]]
  let s = Math.max(0, Math.round(seconds))
  const parts: string[] = []
  for (const [size, unit] of units) {
    const n = Math.floor(s / size)
    if (n > 0 || (unit === "s" && parts.length === 0)) parts.push(`${n}${unit}`)
    s -= n * size
    if (parts.length === 2 || (parts.length === 1 && n === 0)) break
  }
  return parts.join(" ")
}

// Unit is shown after a number: "%", "B", "B/s", "/s", another text, or nothing.
export type Unit = string

// Units as relays say them, where the page writes them otherwise. A count needs no unit.
const written: Record<string, Unit> = {percent: "%", bytes: "B", "bytes/s": "B/s", "1/s": "/s", seconds: "s", celsius: "°C", count: "", processes: "", ratio: ""}
const said = new Map<string, string>() // by stat

// noteUnit keeps what relays say the values of a stat are in.
export function noteUnit(stat: string, unit: string | undefined): void { unit === undefined ? said.delete(stat) : said.set(stat, unit) }

// unitOf is the unit of a stat: as relays say it, or that of a host's stat from a relay that says none.
export function unitOf(stat: string): Unit {
  const unit = said.get(stat)
  if (unit !== undefined) return Object.hasOwn(written, unit) ? written[unit]! : unit
  if (/^(cpu_(used|user|system|iowait|steal)|(ram|swap|disk)_used)$/.test(stat)) return "%"
  if (/^(ram|swap|disk)_(free|total)$/.test(stat)) return "B"
  if (/^net_(in|out)$/.test(stat)) return "B/s"
  return ""
}

// number is a value with its unit, as short as it is useful.
export function number(v: number | null | undefined, unit: Unit = ""): string {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–"
  if (unit === "B" || unit === "B/s") {
    const names = ["", "k", "M", "G", "T", "P"]
    let i = 0, n = v
    while (Math.abs(n) >= 1000 && i < names.length - 1) { n /= 1000; i++ }
    return `${digits(n)} ${names[i]}${unit}`
  }
  const a = Math.abs(v)
  const text = a >= 1e15 || (a > 0 && a < 1e-4) ? v.toExponential(2) : a >= 10000 ? Math.round(v).toLocaleString("en") : digits(v)
  return unit === "" ? text : unit === "/s" ? `${text}/s` : `${text} ${unit}`
}

// exact is a whole number with all of its digits, and events so many of them.
export const exact = (n: number): string => n.toLocaleString("en")
export const events = (n: number): string => `${exact(n)} ${n === 1 ? "event" : "events"}`

function digits(v: number): string {
  const a = Math.abs(v)
  return Number(v.toFixed(a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : 4)).toString()
}

export const bytes = (v: number): string => number(v, "B")

// tagsText is what tells a series from others.
export function tagsText(tags: Record<string, string>, without: string[] = []): string {
  return Object.entries(tags).filter(([k, v]) => v !== "" && !without.includes(k)).map(([k, v]) => `${k}:${v}`).join(" ")
}

// ago is how long ago a moment is that the API names. NaN is no moment.
export const ago = (time: string | undefined): number => Date.now() / 1000 - (moment(time) ?? NaN)

// moment is a time of the API in seconds. What never was is the year 1 there.
export function moment(time: string | undefined): number | undefined {
  const seconds = time ? Date.parse(time) / 1000 : NaN
  return seconds > 0 ? seconds : undefined
}

// placed is a host's name at a hub, where two edges may have hosts of the same name.
export const placed = (edge: string, host: string): string => (edge ? `${edge}/${host}` : host)
