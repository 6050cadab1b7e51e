// Package outside lets other people's programs read the journal with any NATS client: they connect
// to the server inside the process, subscribe to what is committed and to live readings, and make
// pull consumers on the stream. They change nothing and hold up nobody; docs/SUBSCRIBE.md says what
// they may ask for.
//
// A [Clients] is given to [journal.Open], which knows it by the interface [journal.Outside] only.
// Clients have an account of their own in the server. What they ask for goes through a filter,
// which checks each request and repeats it in the journal's account. All of them together are
// bounded: connections, subscriptions, consumers, redeliveries, requests and messages a second.
// What is beyond a bound is refused, counted, and logged once a minute.
//
// The pace of appending does not depend on clients: nothing that the journal calls waits for one.
package outside
