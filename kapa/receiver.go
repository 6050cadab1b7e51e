package kapa

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/cut"
)

const (
	// maxHeaders bounds what is read of an answer's status line and headers. By itself net/http reads
	// 10 MB.
	maxHeaders = 64 << 10
	// maxSaid bounds what is kept of a text from outside.
	maxSaid = 512

	maxRedirects = 3
)

// newTransport is the one to receivers.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: postTimeout, Control: refuseLinkLocal}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 16,
		IdleConnTimeout: time.Minute, TLSHandshakeTimeout: postTimeout, ResponseHeaderTimeout: postTimeout, MaxResponseHeaderBytes: maxHeaders}
}

// refusedError is an answer that is not 2xx.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the receiver answered %d %s", e.status, http.StatusText(e.status))
}

// permanent reports whether the same post will hardly be taken later.
func (e *refusedError) permanent() bool {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.status >= 400 && e.status < 500
}

// postError is why a post did not get an answer, in words that do not depend on what is at the
// other end: whoever may make alerts must not learn from these words what listens where. The cause
// is for the log.
type postError struct {
	text  string
	cause error
}

func (e *postError) Error() string { return e.text }
func (e *postError) Unwrap() error { return e.cause }

// describe returns what may be said of an error of http.Client.Do. It is a *postError.
func describe(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err // the URL may hold a password, and is in the alert anyway
	}
	var (
		name      *net.DNSError
		op        *net.OpError
		redirect  *redirectError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		verify    *tls.CertificateVerificationError
	)
	text := "what answers there does not speak HTTP, or its headers are over 64 KiB"
	switch {
	case errors.Is(err, errLinkLocal):
		text = errLinkLocal.Error()
	case errors.As(err, &redirect):
		text = redirect.Error()
	case errors.As(err, &name):
		text = fmt.Sprintf("the name %s cannot be resolved", cut.Text(name.Name, 256))
		if name.IsTimeout {
			text += " in time"
		}
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		text = fmt.Sprintf("no answer within %s", postTimeout)
	case errors.As(err, &authority):
		text = "its certificate is signed by an authority that is not known here"
	case errors.As(err, &hostname):
		text = "its certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		text = "its certificate has expired, or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &verify):
		text = "its certificate is not valid"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		text = "what answers there does not speak TLS: is it http://?"
	case errors.As(err, &alert):
		text = "it refuses the TLS handshake"
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		text = "the connection was closed without an answer"
	case errors.As(err, &op):
		text = op.Op + " failed"
		var number syscall.Errno
		if errors.As(err, &number) {
			text += ": " + number.Error()
		}
	}
	return &postError{text: text, cause: cut.Error(err, maxSaid)}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// redirectError is a redirect that is not followed.
type redirectError struct{ text string }

func (e *redirectError) Error() string { return e.text }

// checkRedirect follows only what keeps the body and the scheme.
func checkRedirect(req *http.Request, via []*http.Request) error {
	const final = ": set post to the final URL"
	from, to := via[0].URL.Scheme, req.URL.Scheme
	switch {
	case len(via) > maxRedirects:
		return &redirectError{"redirected too often" + final}
	case from != to && (to == "http" || to == "https"):
		return &redirectError{"redirected from " + from + " to " + to + final}
	case from != to:
		return &redirectError{"redirected to what is no HTTP" + final}
	case req.Method != http.MethodPost:
		return &redirectError{"redirected in a way that loses the body (301, 302 or 303)" + final}
	}
	return nil
}
