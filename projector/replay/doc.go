// Package replay rebuilds ranges of the views from the journal while the server runs: after rows were deleted, after
// the cause of a refusal is gone, after a mistake.
//
// A [Job] is a range of time and the projections to rebuild. Jobs are kept in pulse.db, survive a restart, and are run
// one at a time in the order in which they were created. A job has a part for each projection; a part is
// planned once and then done in steps, from the newest end of the range to its oldest. What a step did and where the
// next begins is saved durably after each step and before the next, so that a crash repeats one step at most. Where the
// sink has to make a step durable first ([Persister]), that is done every few seconds, and a crash repeats so much. Steps
// are idempotent: a replay writes what the live projection wrote, over it.
//
// A replay stays behind live traffic: it works for a share of the time only, and not at all while [Options.Busy]
// says that something more urgent is under way. A step that fails is tried again for as long as it takes;
// a job ends by being done, canceled, or impossible (its projection does not exist any more), never because InfluxDB or the
// journal was away.
//
// [Jobs.Stop] ends the step under way and waits for the worker; the job goes on after the next start.
package replay
