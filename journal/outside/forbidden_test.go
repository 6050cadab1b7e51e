package outside

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

// stage is a journal that Pulse reads and appends to, with two outside clients: a witness, who
// would receive a forged message, and an attacker.
type stage struct {
	t        *testing.T
	j        *opened
	reader   *journal.Reader
	own      string // the name of a reader's consumer
	inside   *nats.Subscription
	witness  *nats.Subscription
	attacker *nats.Conn

	last   uint64
	config string

	mu   sync.Mutex
	said []string // errors that the attacker got
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, j: openOutside(t, t.TempDir(), Options{})}
	s.last = appendN(t, s.j, "web1", 0, 200)
	behind := from1(t, s.j, 0) // begins at the server, and keeps its consumer as long as it is not read on
	readN(t, behind, 1)
	s.own = readers(t, s.j)[0]
	s.reader = from1(t, s.j, 1)
	readN(t, s.reader, 200)
	run := s.j.current().JetStream.Conn()
	var err error
	if s.inside, err = run.SubscribeSync("pulse.>"); err != nil {
		t.Fatal(err)
	}
	if err := run.Flush(); err != nil {
		t.Fatal(err)
	}
	witness := client(t, s.j, nats.Name("witness"))
	if s.witness, err = witness.SubscribeSync("pulse.>"); err != nil {
		t.Fatal(err)
	}
	if err := witness.Flush(); err != nil {
		t.Fatal(err)
	}
	s.attacker = client(t, s.j, nats.Name("attacker"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.said = append(s.said, err.Error())
	}))
	s.config = s.configured()
	return s
}

func (s *stage) configured() string {
	stream, err := s.j.current().JetStream.Stream(s.t.Context(), journal.StreamName)
	if err != nil {
		s.t.Fatal(err)
	}
	info := stream.CachedInfo()
	if info.State.LastSeq != s.last || info.State.Msgs != s.last || info.State.FirstSeq != 1 {
		s.t.Errorf("the stream holds %d events, from %d to %d, instead of %d", info.State.Msgs, info.State.FirstSeq, info.State.LastSeq, s.last)
	}
	config, err := json.Marshal(info.Config)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(config)
}

// violation waits until the server has told the attacker that its use of the subject is not
// allowed.
func (s *stage) violation(subject string) {
	s.t.Helper()
	if err := s.attacker.Flush(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "a violation for "+subject, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.ContainsFunc(s.said, func(e string) bool {
			return strings.Contains(strings.ToLower(e), "permissions violation") && strings.Contains(e, strconv.Quote(subject))
		})
	})
}

// unharmed checks that nothing has changed and that Pulse continues.
func (s *stage) unharmed() {
	t := s.t
	t.Helper()
	// Everything that the attacker sent has passed the filter when a later request is answered,
	// outside and inside.
	if err := s.attacker.Flush(); err != nil {
		t.Fatal(err)
	}
	r := s.j.current()
	eventually(t, "the filter is empty", func() bool {
		for _, nc := range []*nats.Conn{r.filter.outside, r.filter.inside, r.JetStream.Conn()} {
			if err := nc.Flush(); err != nil {
				return false
			}
		}
		return true
	})
	if config := s.configured(); config != s.config {
		t.Errorf("the stream's configuration is %s", config)
	}
	if _, err := s.j.current().JetStream.Consumer(t.Context(), journal.StreamName, s.own); err != nil {
		t.Errorf("the reader's consumer: %v", err)
	}
	for name, sub := range map[string]*nats.Subscription{"the journal's account": s.inside, "a witness": s.witness} {
		if m, err := sub.NextMsg(time.Millisecond); err == nil {
			t.Errorf("%s got %s: %.100s", name, m.Subject, m.Data)
		}
	}
	began := time.Now()
	s.last = appendN(t, s.j, "web1", int(s.last), 20)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("20 appends took %v", took)
	}
	if seqs := readN(t, s.reader, 20); seqs[19] != s.last {
		t.Errorf("the reader read up to %d instead of %d", seqs[19], s.last)
	}
	for range 20 {
		for name, sub := range map[string]*nats.Subscription{"the journal's account": s.inside, "a witness": s.witness} {
			if m, err := sub.NextMsg(10 * time.Second); err != nil || m.Subject != "pulse.readings.web1" {
				t.Errorf("%s got %v, %v instead of the event", name, m, err)
			}
		}
	}
}

// Subjects that clients may not even publish or subscribe to.
func TestOutsideForbiddenSubjects(t *testing.T) {
	s := newStage(t)
	publish := []string{"pulse.readings.web1", "pulse.relays.web1", "pulse.live.web1.cpu", "pulse.x", "pulse", "x",
		"pulse.ams1.readings.web1", "pulse.ams1.readings.web1.past", "pulse.ams1.relays.web1", "pulse.ams1.live.web1.cpu", "pulse.ams1.x",
		"_INBOX.x.y", "outside.x", "gate.x", "_R_.x", "$JS.EVENT.ADVISORY.X", "$JS.FC.PULSE.x.y", "$JS.SNAPSHOT.ACK.PULSE.x",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.PULSE.CONNZ", "$SYS.REQ.ACCOUNT.PING.STATZ",
		"$SYS.ACCOUNT.PULSE.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.SERVER.X.RELOAD", "$JS.hub.API.STREAM.INFO.PULSE", "$NRG.x", "$MQTT.x",
		"$JS.ACK.OTHER.c.1.1.1.1.0", "$JS.ACK._.HASH.PULSE.c.1.1.1.1.0"}
	for _, subject := range publish {
		if m, err := s.attacker.Request(subject, []byte(`{}`), 20*time.Millisecond); err == nil {
			t.Errorf("%s was answered: %s", subject, m.Data)
		}
		s.violation(subject)
	}
	for _, subject := range []string{">", "*", "*.>", "*.readings.>", "*.ams1.>", "$SYS.>", "$JS.>", "$JS.ACK.>", "$JS.API.>", "gate.>", "gate.api.>", "outside.>", "_R_.>", "_R_.*.x",
		"$NRG.>", "_INBOX", "pulse"} {
		sub, err := s.attacker.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		s.violation(subject)
		_ = sub.Unsubscribe() // the server has removed it
	}
	s.unharmed()
}

// Forbidden calls of the server's API are answered at once and not executed.
func TestOutsideForbiddenCalls(t *testing.T) {
	s := newStage(t)
	began := time.Now()
	for _, call := range []string{"STREAM.CREATE.X", "STREAM.UPDATE.PULSE", "STREAM.DELETE.PULSE", "STREAM.PURGE.PULSE", "STREAM.MSG.DELETE.PULSE",
		"STREAM.SNAPSHOT.PULSE", "STREAM.RESTORE.PULSE", "STREAM.RESTORE.X", "STREAM.TEMPLATE.CREATE.X", "STREAM.LEADER.STEPDOWN.PULSE",
		"STREAM.PEER.REMOVE.PULSE", "STREAM.PEER.EVACUATE.PULSE", "STREAM.CANCEL_MOVE.PULSE", "STREAM.INFO.X", "STREAM.INFO.KV_x", "STREAM.MSG.GET.X",
		"DIRECT.GET.X", "DIRECT.GET.X.y", "CONSUMER.LIST.X", "CONSUMER.NAMES.X", "CONSUMER.INFO.X.y", "CONSUMER.DELETE.X.y",
		"CONSUMER.CREATE.X", "CONSUMER.CREATE.X.y", "CONSUMER.DURABLE.CREATE.X.y", "CONSUMER.MSG.NEXT.X.y", "CONSUMER.PAUSE.PULSE." + s.own,
		"CONSUMER.RESET.PULSE." + s.own, "CONSUMER.UNPIN.PULSE." + s.own, "CONSUMER.LEADER.STEPDOWN.PULSE." + s.own, "CONSUMER.PEER.REMOVE.PULSE." + s.own,
		"ACCOUNT.PURGE.PULSE", "ACCOUNT.STREAM.MOVE.PULSE.PULSE", "META.LEADER.STEPDOWN", "META.RESCUE", "SERVER.REMOVE", "SERVER.EVACUATE", "X", "X.y.z"} {
		m, err := s.attacker.Request("$JS.API."+call, []byte(`{}`), 10*time.Second)
		switch {
		case err != nil:
			t.Errorf("%s: %v", call, err)
		case !bytes.Contains(m.Data, []byte(`"error"`)) && m.Header.Get("Status") != "404":
			t.Errorf("%s: %s %v", call, m.Data, m.Header)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the answers took %v", took)
	}
	s.unharmed()
}

// Clients can list the stream and the consumers of outside clients, but none of Pulse's own.
func TestOutsideLists(t *testing.T) {
	s := newStage(t)
	js, err := jetstream.New(s.attacker)
	if err != nil {
		t.Fatal(err)
	}
	st := stream(t, s.attacker)
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("mine-%02d", i)
		if _, err := st.CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	var streams, infos, names []string
	list := js.ListStreams(t.Context())
	for info := range list.Info() {
		streams = append(streams, info.Config.Name)
	}
	consumers := st.ListConsumers(t.Context())
	for info := range consumers.Info() {
		if info.NumPending != 200 || info.Config.AckWait != 30*time.Second {
			t.Errorf("%+v", info)
		}
		infos = append(infos, info.Name)
	}
	named := st.ConsumerNames(t.Context())
	for name := range named.Name() {
		names = append(names, name)
	}
	for _, err := range []error{list.Err(), consumers.Err(), named.Err()} {
		if err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(streams, []string{journal.StreamName}) || !slices.Equal(infos, want) || !slices.Equal(names, want) {
		t.Errorf("there are %v, %v, %v", streams, infos, names)
	}
	if _, err := js.Stream(t.Context(), "OTHER"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("another stream: %v", err)
	}
	if _, err := js.KeyValue(t.Context(), "kv"); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("a bucket: %v", err)
	}
	s.unharmed()
}

// Requests that pass the permissions and must be refused because of their content.
func TestOutsideForbiddenRequests(t *testing.T) {
	s := newStage(t)
	own := s.own
	create := func(config string) string { return `{"stream_name":"PULSE","config":{` + config + `}}` }
	requests := []struct{ subject, body string }{
		{"CONSUMER.CREATE.PULSE", `nonsense`},
		{"CONSUMER.CREATE.PULSE", `{"stream_name":"OTHER","config":{}}`},
		{"CONSUMER.CREATE.PULSE", create(`"deliver_subject":"pulse.readings.x"`)},
		{"CONSUMER.CREATE.PULSE", create(`"deliver_subject":"pulse.ams1.readings.x"`)},
		{"CONSUMER.CREATE.PULSE", create(`"deliver_subject":"_INBOX.x.y"`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","deliver_subject":"$JS.API.STREAM.PURGE.PULSE"`)},
		{"CONSUMER.CREATE.PULSE.a.pulse.readings.web1", create(`"name":"a","deliver_subject":"outside.x","filter_subject":"pulse.readings.web1"`)},
		{"CONSUMER.DURABLE.CREATE.PULSE.a", create(`"durable_name":"a","deliver_subject":"pulse.readings.x"`)},
		{"CONSUMER.CREATE.PULSE." + own, create(`"name":"` + own + `","deliver_policy":"new"`)},
		{"CONSUMER.DURABLE.CREATE.PULSE." + own, create(`"durable_name":"` + own + `"`)},
		{"CONSUMER.CREATE.PULSE", create(`"name":"` + own + `"`)},
		{"CONSUMER.CREATE.PULSE", create(`"durable_name":"` + own + `"`)},
		{"CONSUMER.CREATE.PULSE.other", create(`"name":"` + own + `"`)},
		{"CONSUMER.CREATE.PULSE." + own, create(`"name":"other"`)},
		{"CONSUMER.CREATE.PULSE.pulse-new", create(`"name":"pulse-new"`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","num_replicas":3`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","direct":true`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","sample_freq":"100"`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","ack_policy":"flow_control"`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","ack_policy":"explicit","max_ack_pending":-1`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","ack_policy":"explicit","max_ack_pending":1000000`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","ack_policy":"explicit","ack_wait":1`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","ack_policy":"explicit","max_deliver":3,"backoff":[1,1]`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","max_waiting":100000`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","max_waiting":-1`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","inactive_threshold":360000000000000`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","filter_subjects":["` + strings.Repeat(`pulse.readings.x","`, 70) + `y"]`)},
		{"CONSUMER.CREATE.PULSE.a", create(`"name":"a","pause_until":"2099-01-01T00:00:00Z"`)},
		{"CONSUMER.INFO.PULSE." + own, ""},
		{"CONSUMER.DELETE.PULSE." + own, ""},
		{"CONSUMER.DELETE.PULSE.nobody", ""},
		{"CONSUMER.MSG.NEXT.PULSE." + own, "1"},
		{"CONSUMER.MSG.NEXT.PULSE.nobody", `{"batch":1,"expires":1000000000,"idle_heartbeat":1}`},
		{"CONSUMER.MSG.NEXT.PULSE.nobody", strings.Repeat("9", 20000)},
		{"DIRECT.GET.PULSE", `{"multi_last":["` + strings.Repeat(`pulse.readings.*","`, 70) + `"]}`},
		{"DIRECT.GET.PULSE", `{"seq":1,"batch":-1}`},
		{"DIRECT.GET.PULSE", `nonsense`},
		{"STREAM.INFO.PULSE", `nonsense`},
		{"STREAM.MSG.GET.PULSE", `nonsense`},
		{"STREAM.MSG.GET.PULSE", `{"seq":1000000}`},
	}
	for _, r := range requests {
		m, err := s.attacker.Request("$JS.API."+r.subject, []byte(r.body), 10*time.Second)
		if err != nil {
			t.Errorf("%s %.80s: %v; it must be told", r.subject, r.body, err)
			continue
		}
		if status := m.Header.Get("Status"); !bytes.Contains(m.Data, []byte(`"error"`)) && (status == "" || status[0] != '4') {
			t.Errorf("%s %.80s: %.200s %v", r.subject, r.body, m.Data, m.Header)
		}
	}
	if n := len(mustConsumers(t, s.j)); n != 0 {
		t.Errorf("%d consumers are there", n)
	}
	if err := s.attacker.Publish("$JS.ACK.PULSE."+own+".1.1.1.1.0", nil); err != nil {
		t.Fatal(err)
	}
	m, err := s.attacker.RequestMsg(&nats.Msg{Subject: "$JS.API.STREAM.INFO.PULSE", Header: nats.Header{"Nats-Required-Api-Level": {"999"}}}, 10*time.Second)
	if err != nil || !bytes.Contains(m.Data, []byte(`"error"`)) {
		t.Errorf("an API level from the future: %v %v", m, err)
	}
	s.unharmed()
}

func mustConsumers(t *testing.T, j *opened) []*jetstream.ConsumerInfo {
	t.Helper()
	list, err := listConsumers(t.Context(), j.current().JetStream)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Whatever subject a request names for its answer, nothing is written to a forbidden subject.
func TestOutsideHostileReplies(t *testing.T) {
	s := newStage(t)
	st := stream(t, s.attacker)
	if _, err := st.CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: "mine", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	requests := map[string]string{"INFO": "", "STREAM.NAMES": "", "STREAM.INFO.PULSE": "", "STREAM.MSG.GET.PULSE": `{"seq":1}`,
		"DIRECT.GET.PULSE": `{"seq":1,"batch":100}`, "DIRECT.GET.PULSE.pulse.readings.web1": "", "CONSUMER.CREATE.PULSE": `{"stream_name":"PULSE","config":{}}`,
		"CONSUMER.CREATE.PULSE.b": `{"stream_name":"PULSE","config":{"name":"b"}}`, "CONSUMER.DURABLE.CREATE.PULSE.c": `{"stream_name":"PULSE","config":{"durable_name":"c"}}`,
		"CONSUMER.INFO.PULSE.mine": "", "CONSUMER.DELETE.PULSE.mine": "", "CONSUMER.MSG.NEXT.PULSE.mine": `{"batch":10,"no_wait":true}`, "nonsense": ""}
	replies := []string{"pulse.readings.web1", "pulse.relays.web1", "pulse.live.web1.cpu", "$JS.API.STREAM.PURGE.PULSE", "gate.api.INFO", "outside.x",
		"_INBOX", "_INBOX.", "_INBOX.>", "_INBOX.*", "_INBOX.x.*.y", "$JS.ACK.PULSE.mine.1.1.1.1.0", "pulse.ams1.readings.web1", "$SYS.REQ.SERVER.PING", "pulse.>", ">", ""}
	for subject, body := range requests {
		for _, reply := range replies {
			m := &nats.Msg{Subject: "$JS.API." + subject, Reply: reply, Data: []byte(body)}
			if err := s.attacker.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, body := range []string{"", "+ACK", "-NAK", "+WPI", "+TERM", "+NXT", `+NXT {"batch":10}`, "+NXT 10"} {
		for _, reply := range replies {
			if err := s.attacker.PublishMsg(&nats.Msg{Subject: "$JS.ACK.PULSE.mine.1.1.1.1.0", Reply: reply, Data: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, header := range []nats.Header{{"Nats-Trace-Dest": {"pulse.ams1.readings.web1"}}, {"Nats-Trace-Dest": {"$JS.API.STREAM.PURGE.PULSE"}, "Nats-Trace-Only": {"1"}},
		{"Nats-Rollup": {"all"}}, {"Nats-Msg-Id": {"x"}}, {"Nats-Expected-Last-Sequence": {"1"}}, {"traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
		{"Nats-Batch-Id": {"x"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}}, {"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"pulse.readings.x"}}} {
		for subject, body := range requests {
			reply := s.attacker.NewInbox()
			if err := s.attacker.PublishMsg(&nats.Msg{Subject: "$JS.API." + subject, Reply: reply, Data: []byte(body), Header: header}); err != nil {
				t.Fatal(err)
			}
		}
		for _, subject := range []string{"pulse.readings.web1", "pulse.ams1.readings.web1"} {
			if err := s.attacker.PublishMsg(&nats.Msg{Subject: subject, Header: header}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.unharmed()
	if !slices.ContainsFunc(mustConsumers(t, s.j), func(c *jetstream.ConsumerInfo) bool { return c.Name == "mine" }) {
		t.Error("the durable consumer is gone")
	}
}

// No outside client receives Pulse's own requests and answers, whatever it subscribes to.
func TestOutsideInboxes(t *testing.T) {
	s := newStage(t)
	all, err := s.attacker.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.attacker.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := s.j.State(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.unharmed()
	other := from1(t, s.j, 0) // begins at the server
	readN(t, other, 100)
	if m, err := all.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("the attacker hears %s: %.100s", m.Subject, m.Data)
	}
}

// A direct get of everything is answered with a limited number of events, and appending continues.
func TestOutsideDirectGetOfEverything(t *testing.T) {
	s := newStage(t)
	const more = directEvents + 100
	appendMany(t, s.j, more)
	s.last += more
	readN(t, s.reader, more)
	for range more {
		for _, sub := range []*nats.Subscription{s.inside, s.witness} {
			if _, err := sub.NextMsg(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	inbox := s.attacker.NewInbox()
	sub, err := s.attacker.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.attacker.PublishRequest("$JS.API.DIRECT.GET.PULSE", inbox, []byte(`{"seq":1,"batch":1000000000,"max_bytes":2000000000}`)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if m.Header.Get("Status") == "204" {
			break
		}
		n++
	}
	if n != directEvents {
		t.Errorf("%d messages came", n)
	}
	s.unharmed()
}

func TestOutsidePayload(t *testing.T) {
	s := newStage(t)
	raw := dialRaw(t, s.j)
	fmt.Fprintf(raw, "PUB $JS.API.INFO _INBOX.x %d\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
	raw.expect("Maximum Payload")
	raw2 := dialRaw(t, s.j)
	fmt.Fprintf(raw2, "PUB $JS.API.INFO _INBOX.x %d\r\n", 1<<30)
	raw2.closed()
	s.unharmed()
}
