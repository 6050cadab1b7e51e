// Package subjects publishes readings to NATS clients, as they come.
//
// [Projection] publishes each reading on the subject pulse.live.<relay>.<stat>, and those of a
// relay of an edge on pulse.<edge>.live.<relay>.<stat>. Apply never fails and never waits for a client. Each reading is sent at most once, and none that is older than
// Options.MaxAge. Only what somebody listens to is encoded: while nobody listens a batch costs some
// tens of nanoseconds.
package subjects
