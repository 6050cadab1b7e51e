// Package influxquery answers GET and POST /query as InfluxDB 1.x does, and changes nothing. So
// whatever asks an InfluxDB 1.x can ask Pulse: Grafana's own data source, the influx command, the
// client libraries.
//
// A request is parsed by InfluxDB's own parser and allowed by what its statements are, never by
// their text (allow.go): SELECT without INTO, and the SHOWs of names, from Pulse's database and
// retention policies. One statement that is not allowed refuses the whole request, before anything
// of it runs. What runs is the parsed statement.
//
// A request is bounded (bounds.go) in its length, its time, the buckets and values of its answer;
// the store bounds the points and the series that a statement reads. So many run at a time, others
// wait for a while. A client that leaves ends its request. Without chunked=true an answer is
// complete in memory before its first byte is sent, as in InfluxDB.
package influxquery
