package projector_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// plain is a projection that only applies.
type plain struct {
	name string
	did  *[]string
	err  error
}

func (p *plain) Name() string { return p.name }
func (p *plain) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	*p.did = append(*p.did, p.name+" applies")
	return 0, p.err // Together decides the position
}

// full is a projection that also begins and ticks.
type full struct{ plain }

func (f *full) Begin(_ context.Context, span projector.Origin) error {
	*f.did = append(*f.did, f.name+" begins")
	return f.err
}

func (f *full) Tick(context.Context, time.Time) (uint64, error) {
	*f.did = append(*f.did, f.name+" ticks")
	return 0, f.err
}

// Every member gets the calls that it implements, in order. The runner gets an error of any member.
func TestTogether(t *testing.T) {
	var did []string
	first, second := &full{plain{name: "a", did: &did}}, &plain{name: "b", did: &did}
	both := projector.NewTogether("both", first, second)
	if both.Name() != "both" {
		t.Errorf("the name is %q", both.Name())
	}
	records := []journal.Record{{Seq: 7}, {Seq: 9}}
	if err := both.Begin(t.Context(), projector.Origin{}); err != nil {
		t.Error(err)
	}
	if position, err := both.Apply(t.Context(), records); position != 9 || err != nil {
		t.Error(position, err)
	}
	if _, err := both.Tick(t.Context(), time.Time{}); err != nil {
		t.Error(err)
	}
	if want := []string{"a begins", "a applies", "b applies", "a ticks"}; !slices.Equal(did, want) {
		t.Errorf("they did %q, want %q", did, want)
	}
	first.err = errors.New("broken")
	if err := both.Begin(t.Context(), projector.Origin{}); !errors.Is(err, first.err) {
		t.Error("Begin:", err)
	}
	if _, err := both.Apply(t.Context(), records); !errors.Is(err, first.err) {
		t.Error("Apply:", err)
	}
	if _, err := both.Tick(t.Context(), time.Time{}); !errors.Is(err, first.err) {
		t.Error("Tick:", err)
	}
}
