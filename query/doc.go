// Package query is the HTTP API of Pulse. It answers from the views that the rest of the program
// keeps (the newest readings in memory, the aggregates in InfluxDB, the registry of relays) and
// never touches the data path. It reads through the small interfaces in sources.go.
//
// What it promises:
//
//   - every answer carries the CORS headers, every error is JSON {"error": "..."} that says what to
//     do;
//   - no byte of a request is ever part of an InfluxQL statement unquoted: names are quoted
//     identifiers, values are bound parameters, and each finished statement is parsed and compared
//     with what was meant before it is sent (statement.go);
//   - headers, bodies, times, filters, connections and concurrent history queries are all bounded,
//     and a handler that panics costs one answer (500), not the server;
//   - Stop waits for the answers under way until its context ends, then cuts them off.
//
// The routes are one table, in routes.go; README.md is their reference.
package query
