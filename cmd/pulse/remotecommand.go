package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/nanopack/pulse/internal/command"
)

// What the commands that ask a running server one thing have in common.

// dial reads the flags of a command and returns a client for its server. If the client is nil, help
// was asked for or a flag is wrong, and the command ends with the code.
func dial(c *command.Command, args []string) (client *apiClient, code int) {
	flags := clientFlagsOf(c)
	if done, code := c.Begin(args); done {
		return nil, code
	}
	client, err := flags.client()
	if err != nil {
		return nil, c.Misused(err)
	}
	return client, command.ExitOK
}

// runShow is a command that shows the answer to GET path: for people, or as it is with --json.
func runShow[T any](ctx context.Context, c *command.Command, args []string, path string, print func(io.Writer, T) error) int {
	asJSON := jsonFlag(c, path)
	client, code := dial(c, args)
	if client == nil {
		return code
	}
	return get(ctx, c, client, path, func(answer []byte) int { return show(c, client, answer, *asJSON, print) })
}

// jsonFlag adds --json to a command that shows the answer to GET path.
func jsonFlag(c *command.Command, path string) *bool {
	return c.Bool("json", false, "Print the server's answer to GET "+path+" as it is")
}

// get sends GET path, passes the answer on, and returns the exit code.
func get(ctx context.Context, c *command.Command, client *apiClient, path string, answered func([]byte) int) int {
	answer, err := client.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return unanswered(c, err)
	}
	return answered(answer)
}

// show shows an answer: for people, or as it is.
func show[T any](c *command.Command, client *apiClient, answer []byte, asJSON bool, print func(io.Writer, T) error) int {
	if asJSON {
		return c.Write(func(w io.Writer) error { _, err := w.Write(answer); return err })
	}
	var shown T
	if err := json.Unmarshal(answer, &shown); err != nil {
		return c.Failed(fmt.Errorf("%s does not answer as pulse does: %w", client.base, err))
	}
	return c.Write(func(w io.Writer) error { return print(w, shown) })
}

// runDelete is a command that sends DELETE for path and the name that is its argument. Afterwards
// it prints said, a format that takes the name.
func runDelete(ctx context.Context, c *command.Command, args []string, path, said string) int {
	client, code := dial(c, args)
	if client == nil {
		return code
	}
	name := c.Arg(0)
	_, err := client.do(ctx, http.MethodDelete, path+url.PathEscape(name), nil)
	if answer, ok := errors.AsType[*apiError](err); ok && answer.text != "" &&
		(answer.status == http.StatusNotFound || answer.status == http.StatusConflict) {
		return c.Failed(fmt.Errorf("%q: %s", name, answer.text))
	}
	if err != nil {
		return unanswered(c, err)
	}
	return c.Write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, said+"\n", name)
		return err
	})
}

// unanswered writes why there is no useful answer, and returns the exit code.
func unanswered(c *command.Command, err error) int {
	_, answered := errors.AsType[*apiError](err)
	_, distrusted := errors.AsType[x509.UnknownAuthorityError](err)
	if !answered && !distrusted {
		err = fmt.Errorf("is a server running there? %w", err)
	}
	return c.Failed(err)
}
