// Prints the readings that a Pulse server has stored, from the oldest on, then new ones, and live readings, for as long as it runs.
//
//   npm install && node index.js 127.0.0.1:4222 secret
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const [, , servers, pass] = process.argv;
const nc = await connect({ servers, user: "pulse", pass, maxReconnectAttempts: -1 });

for (const subject of ["pulse.live.*.*", "pulse.*.live.*.*"]) { // the second: of edges, at a hub
  (async () => {
    for await (const m of nc.subscribe(subject)) console.log("live", m.subject, m.string());
  })();
}

const consumer = await jetstream(nc).consumers.get("PULSE", { filter_subjects: ["pulse.readings.>", "pulse.*.readings.>"] }); // likewise
for await (const m of await consumer.consume()) {
  for (const r of readings(m.json())) console.log(m.seq, r.edge, r.relay, r.time, r.tags, r.collector, r.stat, r.value);
}

// readings lists the readings of an event. It takes both forms that are in a journal.
function* readings(event) {
  const { v, edge = "", relay, time } = event; // edge: at a hub
  if (v > 2) throw new Error(`version ${v} is not known`);
  for (const { name, tags, stats } of event.collectors ?? []) { // version 1
    for (const [stat, value] of Object.entries(stats)) yield { edge, relay, time, tags, collector: name, stat, value };
  }
  for (const [tags, collectors] of event.stats ?? []) { // version 2: tags, and collectors by name
    for (const [collector, answer] of Object.entries(collectors)) {
      const stats = typeof answer === "number" ? { [collector]: answer } : answer; // a number alone: the stat has the collector's name
      for (const [stat, value] of Object.entries(stats)) yield { edge, relay, time, tags, collector, stat, value };
    }
  }
}
