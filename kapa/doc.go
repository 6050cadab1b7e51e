// Package kapa watches stats and posts when they cross a line.
//
// An [Alert] compares the mean of the readings that match it, over its duration, with its threshold, every
// 30 seconds, and posts to its URL when the outcome changes and at no other time. With a Kapacitor each alert is a task there;
// without one an [Evaluator] does the same on the journal, with the same words in the same body.
//
// Alerts are kept in the state file: what Create, Update and Delete returned nil for is on disk, whatever Kapacitor does.
// [Alerts] brings Kapacitor to what the state file says, now and again and in the background, and touches nothing there
// that it did not make. The evaluator writes a change of state and the post that tells of it in one transaction, so
// that neither is lost or made twice by a crash; a post is sent until it is taken, in order per alert, at least once.
// No value is no change: a relay that fell silent has no mean, and only a deadman speaks of it.
package kapa
