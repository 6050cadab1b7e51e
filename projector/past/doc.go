// Package past goes over recorded events again while the server runs: after an outage of the sink,
// after rows were deleted or damaged, after the cause of a refusal is gone.
//
// A [Queue] has one worker. It does one step at a time, and before each step it asks what is most
// urgent:
//
//   - The [Backlog] is what a runner left out to be live again soon. It goes first. Its records are
//     applied newest first, in chunks of 20,000.
//   - The [Replays] were asked for, by people or by a repair. The oldest goes first, one at a time. A
//     replay works for a share of the time only. It is planned once for each projection and then done
//     in steps, from the newest end of its range to the oldest.
//
// What is left to do is kept in pulse.db, and changed after each step and before the next: a crash
// repeats one step, and leaves out nothing. A sink that keeps what it takes in memory for a while
// ([projector.Persister]) makes a step durable first; for replays that is done every few seconds.
// So steps have to be idempotent.
//
// A step that fails is tried again for as long as it takes. A replay ends by being done, canceled,
// or impossible (its projection does not exist any more), never because InfluxDB or the journal was
// away.
package past
