// Package live publishes readings as they come, to whoever listens now.
//
// [Mist] is a projection that publishes every reading on a mist server, as Pulse 0.2 did. What it promises:
// Apply never waits for the network. Readings wait in a bounded queue, from which one goroutine writes; when
// the queue is full the oldest are dropped. Each reading is sent at most once, in the journal's order, and
// none that is older than MistOptions.MaxAge when it is handed to TCP: live is live, and history is what
// InfluxDB is for. Whatever was not sent is counted with its reason.
//
// A mist that is slow, absent or not a mist at all costs its own queue and nothing else. The connection is made
// anew for as long as it takes; [Mist.Status] says what is wrong meanwhile. [Mist.Stop] sends what is queued, for
// at most a second, and ends every goroutine.
//
// A view of now needs no position: its runner starts at the journal's end (projector.FromEnd).
package live
