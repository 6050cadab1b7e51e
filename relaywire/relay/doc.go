// Package relay makes a program a relay of Pulse: it connects to the server, advertises the
// program's collectors, collects when the server asks, and stays connected for as long as the
// program runs. It needs nothing outside the standard library.
//
// Promise: no method blocks on the network except NewRelay, Wait and Close, and all may be called
// from any goroutine at any time, connected or not. When the connection is lost the relay comes
// back by itself, within about half a second of the server being back if it was away for less than
// a minute, within five seconds otherwise, and adds everything again. Readings are never queued:
// what nobody asked for is not sent later. Each collector is called by one goroutine of its own, so
// never concurrently with itself; one that panics, or blocks longer than the collect timeout, is
// logged and counted and costs the others nothing. Close returns when every goroutine has ended, or
// names the collectors that would not.
//
// It talks to today's server and to a released Pulse 0.2: it never waits for the answer to an add.
package relay
