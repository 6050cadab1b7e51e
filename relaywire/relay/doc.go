// Package relay makes a program a relay of Pulse: it connects to the server, advertises the
// program's collectors, collects when the server asks, and stays connected for as long as the
// program runs. The package needs only the standard library.
//
// Promise: only NewRelay, Wait and Close block on the network, and all methods may be called from
// any goroutine at any time, connected or not. When the connection is lost, the relay reconnects by
// itself and adds every collector again: within about half a second of the server's return if the
// outage was shorter than a minute, within five seconds otherwise. Readings are never queued: a
// reading that the server did not ask for is not sent later, unless the relay has a spool. Each collector is called by one
// goroutine of its own, so never concurrently with itself. A collector that panics, or blocks
// longer than the collect timeout, is logged and counted and does not hold up the others. Close
// returns when every goroutine has ended; otherwise its error names the collectors that did not
// return.
//
// With Options.Spool nothing is lost while the server is away or does not poll: the relay goes on
// collecting at the intervals of the last polls, and hands the records over later, the newest first.
// Each record is in the server's journal once, whatever is killed and when. What the spool has to
// drop because it is full is counted to the reading.
//
// The package works with today's server and with a released Pulse 0.2, because it never waits for
// the answer to an add.
package relay
