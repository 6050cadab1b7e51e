// Package mist publishes readings on a mist server, as they come, as Pulse 0.2 did.
//
// [Sink] is the projection. Apply never waits for the network: readings wait in a bounded queue,
// from which one goroutine writes. When the queue is full the oldest are dropped. Each reading is
// sent at most once, in the journal's order, and none that is older than Options.MaxAge when it is
// handed to TCP: live is live, and history is what InfluxDB is for. Whatever was not sent is
// counted with its reason.
//
// A mist that is slow, absent or not a mist at all costs its own queue and nothing else. The
// connection is tried again for as long as it takes, and [Sink.Status] says what is wrong
// meanwhile. [Sink.Stop] sends what is queued, for at most a second, and ends every goroutine.
//
// A view of now needs no position: its runner starts after the journal's last record
// (projector.FromEnd).
package mist
