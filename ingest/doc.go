// Package ingest is the server that relays connect to: it accepts their connections, knows what they can be asked, polls
// them on a schedule and puts every answer into the journal as one event.
//
// Promise: nothing that one relay does or fails to do delays another. A connection is tracked before its first byte
// and is served by one goroutine; what is written to it goes through a bounded queue that a second goroutine empties
// only while there is something in it, each write with a deadline. Only a session's own goroutine waits for the journal. A
// reading counts as accepted when the journal has it (Append returned); what the journal refuses is counted as lost and the session
// goes on. The events of one relay have strictly increasing times while the server runs, those of several relays are in no order.
//
// What relays have registered and which overrides hold is kept in bbolt: registrations are written behind, a fraction
// of a second late, because relays repeat them when they reconnect; an override is stored before it takes effect. [Server.Stop]
// waits for answers that are under way (a second at most), for the journal to take what was read and for both to be
// stored; when it has returned no goroutine of the package is left.
package ingest
