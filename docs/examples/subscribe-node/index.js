// Prints what a Pulse server has stored, from the oldest event on, then live readings, for as long as it runs.
//
//   npm install && node index.js 127.0.0.1:4222 secret
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const [, , servers, pass] = process.argv;
const nc = await connect({ servers, user: "pulse", pass, maxReconnectAttempts: -1 });

const live = nc.subscribe("pulse.live.>");
(async () => {
  for await (const m of live) console.log("live", m.subject, m.string());
})();

const consumer = await jetstream(nc).consumers.get("PULSE", { filter_subjects: ["pulse.readings.>"] });
for await (const m of await consumer.consume()) console.log(m.seq, m.subject, m.string());
