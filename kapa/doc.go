// Package kapa watches stats and posts when they cross a line.
//
// An [Alert] compares the mean of the readings that match it, over its duration, with its
// threshold, every 30 seconds. It posts to its URL when the outcome changes, and at no other time.
// With a Kapacitor each alert is a task there. Without one an [Evaluator] does the same on the
// journal, and posts the same words in the same body.
//
// Alerts are kept in the state file: what Create, Update and Delete returned nil for is on disk,
// whatever Kapacitor does. The goroutine of [Alerts] brings Kapacitor to what the state file says,
// and touches nothing there that Pulse did not make. The evaluator writes a change of state and the
// post about it in one transaction, so that a crash neither loses the post nor makes it twice. A
// post is sent until the receiver takes it, in order per alert, at least once. No value is no
// change: a relay that fell silent has no mean, and only a deadman reports it.
package kapa
