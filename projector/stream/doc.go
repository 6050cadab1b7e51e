// Package stream sends readings to browsers as server-sent events, as they come.
//
// [Hub] is the projection. While somebody listens it keeps the newest events in a ring, encoded
// once for all. A [Subscription] is one client's view of the journal: every record with readings
// that match is one event, whose id is the record's sequence number. A client that resumes after
// the last id that it has seen misses nothing and sees nothing twice. What the ring does not hold
// is read from the journal, by a bounded number of subscriptions at a time.
//
// A subscription reads at its own pace and has no goroutine and no queue. One that is so slow that
// the ring has dropped what comes next is ended, and may resume. Nothing waits for a client. While
// nobody listens a record costs next to nothing, and nothing is kept.
package stream
