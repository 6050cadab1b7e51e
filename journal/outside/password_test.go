package outside

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// TestOutsidePasswordChanges changes the password while clients are connected: they stay, and new
// clients need the new password.
func TestOutsidePasswordChanges(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	before := client(t, j, nats.NoReconnect())
	const next = "another \"one\""
	j.SetPasswords(next, "")
	if nc, err := tryClient(j); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the old password: %v, %v", nc, err)
	}
	after := client(t, j, nats.UserInfo("pulse", next))
	for _, nc := range []*nats.Conn{before, after} {
		if err := nc.Flush(); err != nil {
			t.Error(err)
		}
		stream(t, nc)
	}
	if nc, err := tryClient(j, nats.UserInfo("outside", next)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("another user: %v, %v", nc, err)
	}
	if nc, err := tryClient(j, nats.UserInfo(journal.User, next)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a user from inside: %v, %v", nc, err)
	}
}

// TestOutsideReader connects with the password that only reads: the client hears what is committed
// and gets what is stored, and makes and moves no consumer.
func TestOutsideReader(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{ReadPassword: "only reads"})
	refusals := make(chan error, 16)
	nc := client(t, j, nats.UserInfo("pulse", "only reads"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refusals <- err }))
	sub, err := nc.SubscribeSync(codec.ReadingsSubject + ">")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), sample("web1", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(time.Minute); err != nil {
		t.Errorf("nothing is heard: %v", err)
	}
	s := stream(t, nc)
	if m, err := s.GetMsg(t.Context(), 1); err != nil || m.Sequence != 1 {
		t.Errorf("the first message: %+v, %v", m, err)
	}
	for range s.ConsumerNames(t.Context()).Name() {
		t.Error("there is a consumer")
	}
	for _, subject := range []string{
		"$JS.API.CONSUMER.CREATE.PULSE", "$JS.API.CONSUMER.CREATE.PULSE.one", "$JS.API.CONSUMER.DURABLE.CREATE.PULSE.one", "$JS.API.CONSUMER.DELETE.PULSE.one",
		"$JS.API.CONSUMER.MSG.NEXT.PULSE.one", "$JS.ACK.PULSE.one.1.1.1.1.0", "$JS.API.STREAM.PURGE.PULSE", "pulse.readings.web1",
		"pulse.ams1.readings.web1", "pulse.ams1.live.web1.cpu",
	} {
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refusals:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s is not refused", subject)
		}
	}
	j.SetPasswords(outsidePassword, "")
	if nc, err := tryClient(j, nats.UserInfo("pulse", "only reads")); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("after it was taken away: %v, %v", nc, err)
	}
}
