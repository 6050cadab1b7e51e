package query

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/julienschmidt/httprouter"

	"github.com/nanopack/pulse/internal/guesses"
)

// handler answers one request, or returns why not: see answerTo. It must not write before it is
// sure to return nil.
type handler func(w http.ResponseWriter, r *http.Request, p params) error

// params are the {names} of a route's path, unescaped, and who asks.
type params struct {
	p     httprouter.Params
	level guesses.Level
}

func (p params) get(name string) string { return p.p.ByName(name) }

// access says who may use a route.
type access uint8

const (
	open       access = iota // anybody
	reading                  // whoever sends a token, also the one that only reads
	ticketed                 // or a ticket
	everything               // whoever sends the token that allows everything
)

type route struct {
	method string
	path   string // {name} matches one path segment, %2F included
	handle handler
	access access
	absent bool // what it needs was not configured: it is a 404
}

// routes is the API. A GET route answers HEAD too, OPTIONS is answered everywhere, and one slash at
// the end of a path makes no difference.
func (s *Server) routes() []route {
	noAlerts := s.o.Alerts == nil
	noControl := s.o.Control == nil
	noMetrics := s.o.Metrics == nil
	noRejects := s.o.Rejects == nil
	noReplays := s.o.Replays == nil
	return []route{
		{method: "GET", path: "/ping", handle: s.ping, access: reading},
		{method: "GET", path: "/keys", handle: s.keys, access: reading},
		{method: "GET", path: "/tags", handle: s.tags, access: reading},
		{method: "GET", path: "/latest/{stat}", handle: s.latest, access: reading},
		{method: "GET", path: "/hourly/{stat}", handle: s.hourly, access: reading},
		{method: "GET", path: "/daily/{stat}", handle: s.daily, access: reading},
		{method: "GET", path: "/range/{stat}", handle: s.rangeOf, access: reading},
		// In 0.2 it was another name for /daily.
		{method: "GET", path: "/daily_peaks/{stat}", handle: s.daily, access: reading, absent: s.o.Compat != Compat02},

		// As of an InfluxDB 1.x; see package influxquery.
		{method: "GET", path: "/query", handle: s.influxQuery, access: reading, absent: s.o.InfluxQL == nil},
		{method: "POST", path: "/query", handle: s.influxQuery, access: reading, absent: s.o.InfluxQL == nil},

		{method: "GET", path: "/alerts", handle: s.listAlerts, access: reading, absent: noAlerts},
		{method: "POST", path: "/alerts", handle: s.addAlert, access: everything, absent: noAlerts},
		{method: "PUT", path: "/alerts", handle: s.updateAlert, access: everything, absent: noAlerts},
		{method: "POST", path: "/alerts/test", handle: s.testAlert, access: reading, absent: noAlerts},
		{method: "GET", path: "/alerts/{id}", handle: s.getAlert, access: reading, absent: noAlerts},
		{method: "DELETE", path: "/alerts/{id}", handle: s.deleteAlert, access: everything, absent: noAlerts},

		{method: "GET", path: "/relays", handle: s.relays, access: reading},
		{method: "DELETE", path: "/relays/{id}", handle: s.forgetRelay, access: everything, absent: noControl},
		{method: "GET", path: "/overrides", handle: s.listOverrides, access: reading, absent: noControl},
		{method: "POST", path: "/overrides", handle: s.addOverride, access: everything, absent: noControl},
		{method: "DELETE", path: "/overrides/{id}", handle: s.cancelOverride, access: everything, absent: noControl},
		{method: "POST", path: "/flush", handle: s.flush, access: everything, absent: noControl},
		{method: "GET", path: "/edges", handle: s.edges, access: reading, absent: s.o.Edges == nil},

		{method: "GET", path: "/replay", handle: s.listReplays, access: reading, absent: noReplays},
		{method: "POST", path: "/replay", handle: s.addReplay, access: everything, absent: noReplays},
		{method: "GET", path: "/replay/{id}", handle: s.getReplay, access: reading, absent: noReplays},
		{method: "DELETE", path: "/replay/{id}", handle: s.cancelReplay, access: everything, absent: noReplays},

		{method: "GET", path: "/consumers", handle: s.listConsumers, access: reading, absent: s.o.Consumers == nil},
		{method: "DELETE", path: "/consumers/{name}", handle: s.deleteConsumer, access: everything, absent: s.o.Consumers == nil},

		{method: "GET", path: "/live", handle: s.live, access: ticketed, absent: s.o.Live == nil},
		{method: "GET", path: "/live/{stat}", handle: s.live, access: ticketed, absent: s.o.Live == nil},
		{method: "POST", path: "/live/ticket", handle: s.makeTicket, access: reading, absent: s.o.Live == nil},

		{method: "GET", path: "/status", handle: s.status, access: reading},
		{method: "GET", path: "/rejects", handle: s.rejects, access: reading, absent: noRejects},
		{method: "GET", path: "/backup", handle: s.backup, access: everything, absent: s.o.Backup == nil},
		{method: "GET", path: "/metrics", handle: s.prometheus, access: reading, absent: noMetrics},
		{method: "GET", path: "/healthz", handle: s.healthz, access: open},
		{method: "GET", path: "/readyz", handle: s.readyz, access: open},
	}
}

// newRouter turns the table into a router, and lists the methods in it.
func (s *Server) newRouter(table []route) (*httprouter.Router, []string) {
	router := httprouter.New()
	// A redirect would lose the token of clients that do not send their headers twice.
	router.RedirectTrailingSlash = false
	router.RedirectFixedPath = false
	router.HandleOPTIONS = false // ServeHTTP does
	var methods []string
	add := func(method string, rt route) {
		router.Handle(method, strings.NewReplacer("{", ":", "}", "").Replace(rt.path), s.wrap(rt))
		if !slices.Contains(methods, method) {
			methods = append(methods, method)
		}
	}
	for _, rt := range table {
		if rt.absent {
			continue
		}
		add(rt.method, rt)
		if rt.method == http.MethodGet {
			add(http.MethodHead, rt)
		}
	}
	slices.Sort(methods)

	// Without the token, what exists and what does not looks the same.
	router.NotFound = s.plain(s.notFound)
	router.MethodNotAllowed = s.plain(s.methodNotAllowed)
	return router, methods
}

// wrap does what all routes have in common: the name for the metrics, the token, the answer to an
// error.
func (s *Server) wrap(rt route) httprouter.Handle {
	return func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
		if rec, ok := w.(*recorder); ok {
			rec.route = rt.path
		}
		leave, level, ok := s.admit(w, r, rt.access)
		if !ok {
			return
		}
		defer leave()
		p = slices.Clone(p)
		for i := range p {
			// The path was matched escaped, so that a stat may hold a slash.
			v, err := url.PathUnescape(p[i].Value)
			if err != nil {
				s.writeError(w, r, badRequest("the path %q is not escaped correctly", r.URL.Path))
				return
			}
			p[i].Value = v
		}
		if err := rt.handle(w, r, params{p, level}); err != nil {
			s.writeError(w, r, err)
		}
	}
}

// plain makes a handler of one of the router's own (404, 405), which asks for the token too.
func (s *Server) plain(handle func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := s.admit(w, r, reading); !ok {
			return
		}
		if err := handle(w, r); err != nil {
			s.writeError(w, r, err)
		}
	}
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) error {
	if s.o.Compat == Compat02 {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return nil
	}
	return &httpError{status: http.StatusNotFound, text: "Not Found: there is no such route" + s.routeHint(r.URL.Path)}
}

func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	if s.o.Compat == Compat02 {
		w.Header().Del("Allow")
		return s.notFound(w, r)
	}
	// The router has set Allow, but without the OPTIONS that every path answers.
	w.Header().Set("Allow", s.allow(r.URL.Path))
	return &httpError{status: http.StatusMethodNotAllowed,
		text: "method " + r.Method + " is not allowed here: use " + w.Header().Get("Allow")}
}

// allow lists the methods of a (routable) path as the header Allow wants it.
func (s *Server) allow(path string) string {
	var allowed []string
	for _, m := range s.methods {
		if h, _, _ := s.router.Lookup(m, path); h != nil {
			allowed = append(allowed, m)
		}
	}
	return strings.Join(append(allowed, http.MethodOptions), ", ")
}

// routable is r with the path to match: still escaped, without the slash at its end.
func routable(r *http.Request) *http.Request {
	path := r.URL.EscapedPath()
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if path == "" {
		path = "/"
	}
	u := *r.URL
	u.Path, u.RawPath = path, ""
	r2 := *r
	r2.URL = &u
	return &r2
}
