// Package teardown undoes, last in first out, what a program opened.
package teardown

import (
	"context"
	"errors"
	"fmt"
)

// A Stack holds what has to be undone. The zero value is empty. It has one user at a time.
type Stack struct {
	steps []step
}

type step struct {
	name string
	undo func(context.Context) error
}

// Push adds a step. Its name completes the sentence "stopping the ...".
func (s *Stack) Push(name string, undo func(context.Context) error) {
	s.steps = append(s.steps, step{name, undo})
}

// Run undoes everything, whatever fails on the way, and leaves the stack empty. It returns all
// errors together.
func (s *Stack) Run(ctx context.Context) error {
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping the %s: %w", s.steps[i].name, err))
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}
