// Package journal is Pulse's source of truth: every poll's reply is one event in a durable, ordered
// stream, kept by a NATS JetStream server inside the process. Below it, package codec is the event
// and its bytes, and package outside serves other people's NATS clients.
//
// What an append means: when [Journal.Append] returns nil, the event is stored once, under the
// sequence number returned, and has been fsynced together with everything that was waiting at the
// same time (group commit). While events come shortly after one another, an append waits up to 4 ms
// for others. Neither kill -9 nor power loss takes it back. [SyncEvery] trades the power loss away
// for speed. When Append fails the event is not stored. After [ErrUnknown] and after the end of the
// context it may be stored; it is never stored twice. Appends never wait for space or for a broken
// disk: they fail, are counted as lost, and resume by themselves.
//
// A [Reader] returns durable events only, in order, and reports every missing sequence number as a
// [GapError]. The newest events are in memory and decoded once for all readers. [Journal.Range]
// reads a [Span] of the journal in the same way and ends.
//
// With [Options].Outside other people's programs read the stream with any NATS client. They change
// nothing and delay nobody; see docs/SUBSCRIBE.md.
//
// [Open] never replaces a journal by an empty one. It puts back what the server drops at its start,
// refuses a journal that cannot be opened and says what to do, and describes a lost end in
// [Journal.Report]. [Journal.Close] writes what was queued and waits for the server to stop.
package journal
