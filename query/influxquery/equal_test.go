package influxquery_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/query/influxquery"
)

// exchange is a request of the corpus. Parameters are "name=value", not escaped.
type exchange struct {
	name   string
	method string // empty: GET with the parameters in the URL
	params []string
	form   []string // of a POST
	header string
}

// span is a range of time as Grafana writes it.
const span = `time >= 1795867200000ms and time <= 1795874400000ms`

// corpus is what Grafana's InfluxDB source asks, and every parameter of /query in every form.
var corpus = []exchange{
	// Grafana.
	{name: "health check", params: []string{"db=statistics", "q=SHOW DATABASES", "epoch=ms"}},
	{name: "health check by measurements", params: []string{"db=statistics", "q=SHOW MEASUREMENTS LIMIT 1", "epoch=ms"}},
	{name: "policies", params: []string{"db=statistics", `q=SHOW RETENTION POLICIES on "statistics"`, "epoch=ms"}},
	{name: "measurements", params: []string{"db=statistics", "q=SHOW MEASUREMENTS LIMIT 100", "epoch=ms"}},
	{name: "measurements like", params: []string{"db=statistics", "q=SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)used/ LIMIT 100", "epoch=ms"}},
	{name: "measurements with a tag", params: []string{"db=statistics", `q=SHOW MEASUREMENTS WHERE "zone" = 'us' LIMIT 100`, "epoch=ms"}},
	{name: "tag keys", params: []string{"db=statistics", `q=SHOW TAG KEYS FROM "cpu_used"`, "epoch=ms"}},
	{name: "tag keys of a policy", params: []string{"db=statistics", `q=SHOW TAG KEYS FROM "one_week"."aggregate"`, "epoch=ms"}},
	{name: "tag keys with a tag", params: []string{"db=statistics", `q=SHOW TAG KEYS FROM "cpu_used" WHERE "host" = 'web1'`, "epoch=ms"}},
	{name: "all tag keys", params: []string{"db=statistics", "q=SHOW TAG KEYS", "epoch=ms"}},
	{name: "tag values", params: []string{"db=statistics", `q=SHOW TAG VALUES FROM "cpu_used" WITH KEY = "host"`, "epoch=ms"}},
	{name: "tag values with a tag", params: []string{"db=statistics", `q=SHOW TAG VALUES FROM "one_day"."cpu_used" WITH KEY = "host" WHERE "zone" = 'us'`, "epoch=ms"}},
	{name: "tag values of a variable", params: []string{"db=statistics", `q=SHOW TAG VALUES WITH KEY = "host"`, "epoch=ms"}},
	{name: "tag values of several keys", params: []string{"db=statistics", `q=SHOW TAG VALUES WITH KEY IN ("host", "zone")`, "epoch=ms"}},
	{name: "tag values like", params: []string{"db=statistics", `q=SHOW TAG VALUES WITH KEY =~ /ho.*/`, "epoch=ms"}},
	{name: "field keys", params: []string{"db=statistics", `q=SHOW FIELD KEYS FROM "cpu_used"`, "epoch=ms"}},
	{name: "field keys of a policy", params: []string{"db=statistics", `q=SHOW FIELD KEYS FROM "one_week"."aggregate"`, "epoch=ms"}},
	{name: "panel", params: []string{"db=statistics", `q=SELECT mean("cpu_used") FROM "cpu_used" WHERE ` + span + ` GROUP BY time(10m), "host" fill(null)`, "epoch=ms"}},
	{name: "panel by POST", method: "POST", params: []string{"db=statistics", "epoch=ms"},
		form: []string{`q=SELECT mean("cpu_used") FROM "cpu_used" WHERE ` + span + ` GROUP BY time(10m), "host" fill(null)`}},
	{name: "panel of two", params: []string{"db=statistics", `q=SELECT mean("cpu_used") FROM "one_day"."cpu_used" WHERE ("host" =~ /^(web0|web2)$/) AND ` + span + ` GROUP BY time(5m) fill(previous);` +
		`SELECT max("ram_used") AS "most" FROM "ram_used" WHERE ` + span + ` GROUP BY time(1h), "zone"::tag fill(none)`, "epoch=ms"}},
	{name: "windows", params: []string{"db=statistics", `q=SELECT sum("cpu_used:sum") / sum("cpu_used:count"), min("cpu_used:min"), max("cpu_used:max"), last("cpu_used:last") FROM "one_week"."aggregate" WHERE ` + span + ` GROUP BY time(1h), "host"`, "epoch=ms"}},
	{name: "annotation", params: []string{"db=statistics", `q=SELECT "cpu_used" FROM "cpu_used" WHERE ` + span + ` AND "host" = 'web1' ORDER BY time DESC LIMIT 3`, "epoch=ms"}},
	{name: "relative time", params: []string{"db=statistics", `q=SELECT last("cpu_used") FROM "cpu_used" WHERE time > now() - 5200w GROUP BY "host"`, "epoch=ms"}},
	{name: "empty panel", params: []string{"db=statistics", `q=SELECT mean("nothing") FROM "nothing" WHERE ` + span + ` GROUP BY time(10m) fill(null)`, "epoch=ms"}},
	// Parameters.
	{name: "no epoch", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" WHERE "host" = 'web0' LIMIT 2`}},
	{name: "epoch ns", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" LIMIT 2`, "epoch=ns"}},
	{name: "epoch u", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" LIMIT 2`, "epoch=u"}},
	{name: "epoch s", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" LIMIT 2`, "epoch=s"}},
	{name: "epoch h", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" LIMIT 2`, "epoch=h"}},
	{name: "epoch of another kind", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" LIMIT 2`, "epoch=fortnight"}},
	{name: "rp", params: []string{"db=statistics", "rp=one_week", `q=SELECT "cpu_used:count" FROM "aggregate" LIMIT 2`}},
	{name: "pretty", params: []string{"db=statistics", "pretty=true", `q=SELECT "cpu_used" FROM "cpu_used" GROUP BY "zone" LIMIT 1`}},
	{name: "params", params: []string{"db=statistics", `q=SELECT "cpu_used" FROM "cpu_used" WHERE "host" = $host AND "cpu_used" > $least AND "cpu_used" < $most`, `params={"host":"web1","least":2,"most":2.9}`}},
	{name: "identifier as a parameter", params: []string{"db=statistics", `q=SELECT last($stat) FROM $stat WHERE "host" =~ $host`, `params={"stat":{"identifier":"cpu_used"},"host":{"regex":"web[12]"}}`}},
	{name: "chunked", params: []string{"db=statistics", "chunked=true", "chunk_size=50", `q=SELECT "cpu_used" FROM "cpu_used" GROUP BY "host"; SHOW MEASUREMENTS`}},
	{name: "chunked, default size", params: []string{"db=statistics", "chunked=true", `q=SELECT "cpu_used" FROM "cpu_used" GROUP BY "host"`}},
	{name: "csv", params: []string{"db=statistics", `q=SELECT mean("cpu_used"), count("cpu_used") FROM "cpu_used" WHERE ` + span + ` GROUP BY time(30m), "zone"; SHOW TAG VALUES WITH KEY = "host"`}, header: "Accept: application/csv"},
	{name: "csv with epoch", params: []string{"db=statistics", "epoch=s", `q=SELECT "cpu_used:max", "cpu_used:min" FROM "one_week"."aggregate" LIMIT 3`}, header: "Accept: text/csv"},
	{name: "csv in parts", params: []string{"db=statistics", "chunked=true", "chunk_size=7", `q=SELECT "cpu_used" FROM "cpu_used" GROUP BY "host" LIMIT 20`}, header: "Accept: application/csv"},
	{name: "form only", method: "POST", form: []string{"db=statistics", "epoch=ms", "pretty=true", `q=SHOW FIELD KEYS`}},
	{name: "large and small numbers", params: []string{"db=statistics", `q=SELECT * FROM "one_week"."aggregate" LIMIT 2`}},
	{name: "a name to quote", params: []string{"db=statistics", `q=SELECT mean("odd \"stat\"/") FROM "odd \"stat\"/"; SHOW TAG KEYS FROM /odd.*\//`}},
	{name: "subquery", params: []string{"db=statistics", `q=SELECT max("m") FROM (SELECT mean("cpu_used") AS "m" FROM "cpu_used" WHERE ` + span + ` GROUP BY time(10m), "host") GROUP BY "host"`}},
	{name: "time zone", params: []string{"db=statistics", `q=SELECT mean("cpu_used") FROM "cpu_used" WHERE ` + span + ` GROUP BY time(1h) tz('Europe/Berlin')`}},
	{name: "regex source", params: []string{"db=statistics", `q=SELECT count(*) FROM /.*_used/ GROUP BY *`}},
	{name: "percentile", params: []string{"db=statistics", `q=SELECT percentile("cpu_used", 99.5), derivative(mean("cpu_used"), 1s) FROM "cpu_used" WHERE ` + span + ` GROUP BY time(1h)`}},
	{name: "percentile alone", params: []string{"db=statistics", `q=SELECT percentile("cpu_used", 99.9) FROM "cpu_used" WHERE "cpu_used" > 0.00001`}},
	{name: "fill with a number", params: []string{"db=statistics", `q=SELECT mean("cpu_used") FROM "one_week"."aggregate" WHERE ` + span + ` GROUP BY time(10m) fill(5.0) LIMIT 5`}},
	{name: "series", params: []string{"db=statistics", `q=SHOW SERIES; SHOW SERIES FROM "cpu_used" WHERE "host" = 'web1'`}},
	{name: "cardinality", params: []string{"db=statistics", `q=SHOW SERIES CARDINALITY; SHOW MEASUREMENT CARDINALITY; SHOW TAG KEY CARDINALITY; SHOW TAG VALUES CARDINALITY WITH KEY = "host"; SHOW FIELD KEY CARDINALITY; SHOW SERIES EXACT CARDINALITY`}},
	// Errors.
	{name: "no q", params: []string{"db=statistics"}},
	{name: "no statement", params: []string{"db=statistics", "q=hello <world>"}},
	{name: "no database", params: []string{`q=SELECT * FROM "cpu_used"`}},
	{name: "no database, but in the source", params: []string{`q=SELECT last(*) FROM "statistics"."one_day"."cpu_used"`}},
	{name: "no such function", params: []string{"db=statistics", `q=SELECT nothing("cpu_used") FROM "cpu_used"`}},
	{name: "an error after an answer", params: []string{"db=statistics", `q=SHOW MEASUREMENTS; SELECT derivative("host") FROM "cpu_used"; SHOW DATABASES`}},
	{name: "mixed aggregates", params: []string{"db=statistics", `q=SELECT mean("cpu_used"), "cpu_used" FROM "cpu_used"`}},
	{name: "bad params", params: []string{"db=statistics", `q=SHOW DATABASES`, `params={`}},
	{name: "missing parameter", params: []string{"db=statistics", `q=SELECT * FROM "cpu_used" WHERE "host" = $host`}},
	{name: "not finite", params: []string{"db=statistics", `q=SELECT ln("cpu_used") FROM "cpu_used" WHERE "cpu_used" = 0`}},
}

func encode(params []string) string {
	values := url.Values{}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		values.Add(name, value)
	}
	return values.Encode()
}

// An InfluxDB 1.8 and Pulse, with the engine in process and with that InfluxDB, give the same bytes.
func TestEqualToInfluxDB(t *testing.T) {
	server := testtools.StartInfluxd(t, testtools.InfluxDB18)
	outside, inside := openServer(t, server), openEmbedded(t, embedded.Options{})
	addresses := map[string]string{}
	for name, store := range map[string]influx.Store{"embedded": inside, "external": outside} {
		fill(t, store)
		addresses[name] = serve(t, influxquery.Options{Store: store})
	}
	c := client(t)
	for _, x := range corpus {
		t.Run(x.name, func(t *testing.T) {
			method := x.method
			if method == "" {
				method = "GET"
			}
			var headers []string
			if x.header != "" {
				headers = append(headers, x.header)
			}
			want := ask(t, c, server.Addr, method, encode(x.params), encode(x.form), headers...)
			for name, address := range addresses {
				if got := ask(t, c, address, method, encode(x.params), encode(x.form), headers...); got != want {
					t.Errorf("%s:\n%s gives %d %s\n%s\nInfluxDB %d %s\n%s", strings.Join(x.params, " "), name, got.status, got.kind, got.body, want.status, want.kind, want.body)
				}
			}
		})
	}
}
