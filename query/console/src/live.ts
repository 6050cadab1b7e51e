import {ApiError, address, ask, type Params, type Tags} from "./api"
import {sleep} from "./ui"

export interface Reading {stat: string; value: number; tags: Tags}
interface Handlers {
  readings(relay: string, seconds: number, readings: Reading[]): void
  lost(): void // some readings are not there: what is drawn has to be asked for again
  state(connected: boolean): void
}

// listen streams readings until signal. After a break it goes on after the last event that it has
// seen, so that none is missing.
export async function listen(path: string, params: Params, on: Handlers, signal: AbortSignal): Promise<void> {
  let last = ""
  while (!signal.aborted) {
    try {
      const answer = await ask("GET", address(path, params), {signal, headers: last ? {"Last-Event-ID": last} : {}})
      on.state(true)
      for await (const event of events(answer.body!.pipeThrough(new TextDecoderStream()))) {
        if (event.id) last = event.id
        if (event.name === "readings") {
          const {relay, time, readings} = JSON.parse(event.data) as {relay: string; time: number; readings: Reading[]}
          on.readings(relay, time / 1e9, readings)
        } else if (event.name === "gap") on.lost()
      }
    } catch (e) {
      if (signal.aborted) return
      if (e instanceof ApiError && (e.status === 401 || e.status === 429)) return // the token is asked for
    }
    on.state(false)
    await sleep(1000, signal)
  }
}

interface Event {id: string; name: string; data: string}

async function* events(text: ReadableStream<string>): AsyncGenerator<Event> {
  const reader = text.getReader()
  let buffer = ""
  try {
    for (;;) {
      const {value, done} = await reader.read()
      if (done) return
      buffer += value
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const event: Event = {id: "", name: "", data: ""}
        for (const line of buffer.slice(0, end).split("\n")) {
          if (line.startsWith("id: ")) event.id = line.slice(4)
          else if (line.startsWith("event: ")) event.name = line.slice(7)
          else if (line.startsWith("data: ")) event.data += line.slice(6)
        }
        buffer = buffer.slice(end + 2)
        yield event
      }
    }
  } finally {
    await reader.cancel().catch(() => {}) // the connection is gone already
  }
}
