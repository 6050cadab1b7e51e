package outside

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nanopack/pulse/journal/codec"

	"github.com/nanopack/pulse/journal"
)

// A plain subscription gets the committed events in order. Without subscriptions nothing is copied.
func TestOutsideCopies(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	nc := client(t, j)
	appendN(t, j, "web1", 0, 1)
	all, err := nc.SubscribeSync("pulse.>")
	if err != nil {
		t.Fatal(err)
	}
	other, err := nc.SubscribeSync("pulse.readings.web2")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	appendN(t, j, "web1", 1, 2000)
	appendN(t, j, "web2", 2001, 1)
	for i := 1; i < 2002; i++ {
		m, err := all.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(i, err)
		}
		var e codec.Event
		if err := new(codec.Decoder).DecodeEvent(m.Data, &e); err != nil || e.Time != sample("", i).Time || m.Reply != "" {
			t.Fatalf("%d: %v %v %q", i, e.Time, err, m.Reply)
		}
	}
	if m, err := other.NextMsg(time.Minute); err != nil || m.Subject != "pulse.readings.web2" {
		t.Errorf("%v %v", m, err)
	}
	if err := all.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if err := other.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	c := j.current().copies
	eventually(t, "nothing is copied", func() bool { return c.account.TotalSubs() == c.baseline && c.waiting.Load() == 0 })
}

// The events that wait to be copied are bounded, and a commit does not wait for them.
func TestOutsideCopiesAreBounded(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	nc := client(t, j)
	if _, err := nc.SubscribeSync("pulse.readings.>"); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	run := j.current()
	c, err := newCopies(run)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.baseline = run.copies.baseline
	big := journal.Message{Subject: "pulse.readings.web1", Data: make([]byte, 1<<20)}
	for range 20 { // no goroutine publishes them
		c.add([]journal.Message{big})
	}
	if n := value(t, j.m.copiesDropped); n < 12 || n > 13 || c.waiting.Load() > maxCopies {
		t.Errorf("%v dropped, %d bytes wait", n, c.waiting.Load())
	}
}

// The server has no cache of the subscriptions to a subject. With a cache, each new subscription
// would copy the entries of all the subjects that match it, and thousands would keep the server
// busy for seconds.
func TestOutsideSubscriptionsAreNotCached(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	nc := client(t, j)
	sub, err := nc.SubscribeSync("pulse.readings.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	appendN(t, j, "web1", 0, 10)
	if _, err := sub.NextMsg(time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{journal.Account, accountHeard, accountClients} {
		z, err := j.current().Server.Subsz(&server.SubszOptions{Account: account})
		if err != nil || z.NumCache != 0 {
			t.Errorf("%s: %d cached, %v", account, z.NumCache, err)
		}
	}
}

// Many subscriptions to single subjects do not slow each other down: the cost of a message is the
// number of subscriptions to its own subject.
func TestOutsideNarrowSubscriptions(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	nc := client(t, j)
	for i := range DefaultSubscriptions - 2 {
		subject := fmt.Sprintf("pulse.live.web%d.cpu", i)
		if i%2 == 1 {
			subject = fmt.Sprintf("pulse.readings.web%d", i)
		}
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	d := j.current()
	for subject, want := range map[string]int{"pulse.live.web0.cpu": 1, "pulse.live.other.cpu": 0} {
		if got := d.live.cost(subject); got != want {
			t.Errorf("%s costs %d, want %d", subject, got, want)
		}
	}
	if got := d.copies.cost("pulse.readings.web1"); got != 1 {
		t.Errorf("an event costs %d, want 1", got)
	}
}
