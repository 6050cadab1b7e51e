// Package teardown undoes the steps with which a program started, last in first out.
package teardown

import (
	"context"
	"errors"
	"fmt"
)

// A Stack holds the steps that must be undone. The zero value is empty. It is not safe for
// concurrent use.
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

// Run undoes all steps, even if some fail, and leaves the stack empty. It returns all errors
// joined.
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
