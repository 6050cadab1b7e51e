package teardown

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// Steps are undone in reverse order, each once, whichever of them fail.
func TestStack(t *testing.T) {
	var undone []string
	broken := errors.New("broken")
	var s Stack
	for _, name := range []string{"store", "journal", "listener"} {
		s.Push(name, func(context.Context) error {
			undone = append(undone, name)
			if name == "journal" {
				return broken
			}
			return nil
		})
	}
	err := s.Run(t.Context())
	if !errors.Is(err, broken) || err.Error() != "stopping the journal: broken" {
		t.Errorf("the error is %v", err)
	}
	if want := []string{"listener", "journal", "store"}; !slices.Equal(undone, want) {
		t.Errorf("undone: %q, want %q", undone, want)
	}
	if err := s.Run(t.Context()); err != nil || len(undone) != 3 {
		t.Errorf("a second Run undid %q, %v", undone, err)
	}
}
