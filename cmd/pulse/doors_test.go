package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/mist/misttest"
	"github.com/nanopack/pulse/projector/stream/streamtest"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestAwkwardBytes sends ids, names, tags and numbers that have a meaning to some program on their
// way. They arrive unchanged at every output, or are refused with a reason.
func TestAwkwardBytes(t *testing.T) {
	const (
		relay = `we.b-1 *>:"$JS.\,é{}` + "\u2028"
		stat  = `c.p*u > "1" #ü\`
	)
	tags := []string{`ser"vice:a\b 'c' <&>{}=;`, "ключ:*.>\u2029", `bare "word" >`, "host:somebody else", `k:v:w`}
	want := map[string]string{"host": relay, `ser"vice`: `a\b 'c' <&>{}=;`, "ключ": "*.>\u2029", "k": "v:w"}
	values := []string{"-0.5", "1e-300", "9007199254740993", "1.7976931348623157e308", "4.9e-324"}

	natsAddress := freeport.Of(t)
	mist := misttest.Listen(t, "")
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "--mist-address", mist.Addr(), "--nats-listen-address", natsAddress)
	mist.WaitAccepted(1)
	conn, err := nats.Connect(natsAddress, nats.UserInfo("pulse", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	subject := "pulse.live." + codec.Token(relay) + "." + codec.Token(stat)
	heard, err := conn.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+s.HTTPAddr+"/live/"+url.PathEscape(stat)+"?host="+url.QueryEscape(relay), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	stream, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	events := streamtest.NewEvents(stream.Body)

	r := relaytest.Connect(t, s.RelayAddr, relay)
	r.Add("a collector", tags...)
	for _, refused := range []string{"add c:bell\a", "add " + "c\x80", "add c d\te"} {
		r.Send(refused)
		r.AwaitPrefix("error ")
	}
	for i, value := range values {
		r.Send("got a collector-" + stat + ":" + value + ",a collector-nan:NaN,a collector-huge:1e999")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}

		message, err := heard.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var reading struct {
			Value float64
			Tags  map[string]string
		}
		if err := json.Unmarshal(message.Data, &reading); err != nil || reading.Value != number || !reflect.DeepEqual(reading.Tags, want) {
			t.Errorf("%s from NATS: %s, %v", value, message.Data, err)
		}

		ev, err := events.Next()
		for err == nil && ev.Type != "readings" {
			ev, err = events.Next()
		}
		var streamed struct {
			Relay    string
			Readings []struct {
				Stat  string
				Value float64
				Tags  map[string]string
			}
		}
		if uerr := json.Unmarshal([]byte(ev.Data), &streamed); err != nil || uerr != nil || streamed.Relay != relay || len(streamed.Readings) != 1 ||
			streamed.Readings[0].Stat != stat || streamed.Readings[0].Value != number || !reflect.DeepEqual(streamed.Readings[0].Tags, want) {
			t.Errorf("%s from the stream: %+v, %v, %v", value, ev, err, uerr)
		}

		published := mist.WaitPublished(i + 1)[i]
		topics := []string{"host:" + relay, "metrics", tags[0], tags[1], tags[2], tags[4], stat}
		slices.Sort(topics)
		if got, err := strconv.ParseFloat(published.Data, 64); err != nil || got != number || !slices.Equal(published.Tags, topics) {
			t.Errorf("%s from mist: %+v, %v", value, published, err)
		}

		var latest struct{ Value float64 }
		if err := s.Get("/latest/"+url.PathEscape(stat)+"?host="+url.QueryEscape(relay)+"&"+url.QueryEscape(`ser"vice`)+"="+url.QueryEscape(want[`ser"vice`]), &latest); err != nil || latest.Value != number {
			t.Errorf("%s from /latest: %+v, %v", value, latest, err)
		}
	}
	if n, err := s.Metric("pulse_ingest_readings_rejected_total", "not_finite"); err != nil || n != float64(2*len(values)) {
		t.Errorf("rejected as not finite: %v, %v", n, err)
	}
}
