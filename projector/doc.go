// Package projector keeps views of the journal. A [Runner] takes one [Projection] through the
// journal: it reads a batch, has it applied, and only then moves the projection's position in
// bbolt. Each runner has one goroutine and a position of its own, so that a dead sink delays no
// other. A [Set] is all of them.
//
// Every record of the journal is applied at least once. A projection makes that exactly once by
// being idempotent. Records come in order, unless the projection has a [Backlog]: after an outage
// its runner is live again at once, and what was missed is filled in afterwards, the newest first
// (package past). A failure that may pass is retried with the same batch for as long as it takes,
// in the open: a log line a minute, a counter, [Status]. A record that can never be applied is
// counted, listed in [Rejects] and left behind. Sequence numbers that are missing from the journal
// are counted, reported and left behind. Nothing else is ever skipped. A saved position may be a
// second old after kill -9 (or [RunnerOptions.SaveEvery]), but is never ahead of what the sink has
// made durable.
//
// [Runner.Drain] waits until everything that the journal held at the call was applied;
// [Runner.Stop] does not. Both wait for the runner's goroutine.
package projector
