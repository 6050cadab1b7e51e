// Package ingest is the server that relays connect to: it accepts their connections, knows what
// each relay can be asked, polls the relays on a schedule and puts every answer into the journal as
// one event.
//
// Promise: nothing that one relay does or fails to do delays another. A connection is tracked
// before its first byte and is served by one goroutine at a time. What is written to it is written
// without waiting, as far as the kernel takes it at once. The rest goes through a bounded queue. A
// second goroutine empties the queue, each write with a deadline, and exists only while there is
// something in it. Only a session's own goroutine waits for the journal. One goroutine polls all
// relays and waits for none of them. A reading counts as accepted when the journal has it (Append
// returned); what the journal refuses is counted as lost and the session goes on. The events of one
// relay have strictly increasing times while the server runs; those of several relays are in no
// order.
//
// What relays have registered, and which overrides hold, is kept in bbolt. Registrations are
// written a fraction of a second late, because relays repeat them when they reconnect; an override
// is stored before it takes effect. [Server.Stop] waits for answers that are under way (a second at
// most), for the journal to take what was read and for both to be stored. No goroutine of the
// package is left when Stop has returned.
//
// The files, from the lowest to the highest, of which none calls a higher one: errors, options,
// metrics, token; socket, conn, events and changes, which are the queues that relays write to;
// override and override_store; schedule, which is when relays are polled; env, which is what relays
// share; collectors, relay, poll, readings and relay_connection, which are one relay; relay_store,
// registry, poller and keeper, which are all relays; session, server, control.
package ingest
