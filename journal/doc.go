// Package journal is Pulse's source of truth: every poll's reply is one event in a durable, ordered
// stream, kept by a NATS JetStream server inside the process. It is the only package that knows
// NATS.
//
// What an append means: when [Journal.Append] returns nil, the event is stored once, under the
// sequence number returned, and has been fsynced together with everything that was waiting at the
// same time (group commit); kill -9 and power loss do not take it back. [SyncEvery] trades the
// power loss away for speed. When Append fails the event is not stored, or, for [ErrUnknown] and a
// context that ended, perhaps; it is never stored twice. Appends never wait for space or for a
// broken disk: they fail, are counted as lost, and resume by themselves.
//
// A [Reader] returns durable events only, in order, and reports every missing sequence number as a
// [GapError].
//
// With [Options].Outside other people's programs read the stream with any NATS client. They change
// nothing and hold up nobody; see docs/SUBSCRIBE.md.
//
// [Open] never replaces a journal by an empty one: what the server drops at its start is put back,
// a journal that cannot be opened is refused with what to do, and an end that was lost is in
// [Journal.Report]. [Journal.Close] writes what was queued and waits for the server to stop.
package journal
