package outside

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal"
)

// TestOutsidePasswordChanges changes the password while clients are connected: they stay, and new
// clients need the new password.
func TestOutsidePasswordChanges(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	before := client(t, j, nats.NoReconnect())
	const next = "another \"one\""
	j.SetPassword(next)
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
