#!/usr/bin/env node
// A relay of Pulse in Node, without dependencies. Change collectors to what you measure.
//
//   node relay.js 127.0.0.1:3000 web1
//
// The id is this host's name if it is left out. A token for a server that wants one comes from
// PULSE_RELAY_TOKEN.
"use strict";
const net = require("node:net"); // for a server with --relay-tls: node:tls, and tls.connect below
const os = require("node:os");

// Each collector has tags (key:value) and a function that returns a value for each stat, or a
// promise of them. Names hold no '-', ':' or ','. A stat's name is what /latest and the page call it.
const collectors = {
  load: {
    tags: ["example:node"],
    collect() {
      const [one, five, fifteen] = os.loadavg();
      return { load_1: one, load_5: five, load_15: fifteen };
    },
  },
  memory: {
    tags: ["example:node"],
    collect: () => ({ memory_total: os.totalmem(), memory_available: os.freemem() }),
  },
  relay: {
    tags: ["example:node"],
    collect: () => ({ relay_rss: process.memoryUsage.rss(), relay_uptime: process.uptime() }),
  },
};

// What the values of a stat are in, for those who draw them.
const units = {
  load_1: "processes",
  load_5: "processes",
  load_15: "processes",
  memory_total: "bytes",
  memory_available: "bytes",
  relay_rss: "bytes",
  relay_uptime: "seconds",
};

const address = process.argv[2] ?? "127.0.0.1:3000";
const id = process.argv[3] ?? os.hostname();
const token = process.env.PULSE_RELAY_TOKEN ?? "";
const colon = address.lastIndexOf(":");
const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
const port = Number(address.slice(colon + 1));

// items returns the items of an answer. A collector that fails is left out.
async function items(names) {
  const found = await Promise.all(
    names.map(async (name) => {
      try {
        const stats = (await collectors[name]?.collect()) ?? {};
        return Object.entries(stats)
          .filter(([, value]) => Number.isFinite(value))
          .map(([stat, value]) => `${name}-${stat}:${value}`);
      } catch (error) {
        console.error(`${name}: ${error.message}`);
        return [];
      }
    }),
  );
  return found.flat();
}

let pause = 50; // ms until the next attempt; doubles up to five seconds

function connect() {
  let welcome = false;
  let quiet = 0; // beats without a line
  let beat = 10_000;
  let timer;
  let rest = "";
  const socket = net.connect(port, host, () => send(`id ${id}`));
  socket.setEncoding("utf8");

  function send(line) {
    if (socket.writable) socket.write(line + "\n");
  }

  // wait pings after a beat without a line. After two, the server is gone.
  function wait() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      quiet++;
      if (quiet === 2) return socket.destroy(new Error("the server says nothing"));
      send("ping");
      wait();
    }, beat);
  }

  async function hear(line) {
    const space = (line + " ").indexOf(" ");
    const verb = line.slice(0, space);
    const words = line.slice(space + 1);
    if (verb === "ok" && !welcome) {
      welcome = true;
      pause = 50;
      console.error(`connected as ${id}`);
      for (const [name, { tags }] of Object.entries(collectors)) send(`add ${name}:${tags.join(",")}`);
    } else if (verb === "get") {
      send(`got ${(await items(words.split(","))).join(",")}`.trimEnd());
    } else if (verb === "takes" && words.split(",").includes("units")) {
      send(`units ${Object.entries(units).map(([stat, unit]) => `${stat}:${unit}`).join(",")}`);
    } else if (verb === "flush" || verb === "override") {
      send("ok"); // nothing is gathered between polls
    } else if (verb === "beat") {
      beat = 1000 * Math.max(Number(words), 1);
    } else if (verb === "error") {
      console.error(`the server says: ${words}`);
      // The token is sent only to a server that wants it.
      if (words.startsWith("missing token") && token) send(`id ${id} token:${token}`);
    }
  }

  socket.on("data", (data) => {
    const lines = (rest + data).split("\n");
    rest = lines.pop();
    quiet = 0;
    for (const line of lines) hear(line.replace(/\r$/, ""));
    wait();
  });
  socket.on("end", () => console.error(`${address}: the server closed the connection`));
  socket.on("error", (error) => console.error(`${address}: ${error.message}`));
  socket.on("close", () => {
    clearTimeout(timer);
    again = setTimeout(connect, pause * (0.5 + Math.random() / 2));
    pause = Math.min(2 * pause, 5000);
  });
  wait();
  current = socket;
}

let current;
let again; // the timer of the next attempt

function leave() {
  if (current.writable && !current.connecting) current.end("close\n", () => process.exit(0));
  else process.exit(0);
}
process.on("SIGTERM", leave);
process.on("SIGINT", leave);
connect();
