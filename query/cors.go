package query

import (
	"cmp"
	"net/http"
)

// SetCORS changes Access-Control-Allow-Origin; "" is "*".
func (s *Server) SetCORS(origin string) {
	origin = cmp.Or(origin, "*")
	s.cors.Store(&origin)
}

// setCommonHeaders is called before anything else, so that a browser can read every answer, errors
// included, and does nothing else with it.
func (s *Server) setCommonHeaders(h http.Header) {
	h.Set("Access-Control-Allow-Origin", *s.cors.Load())
	// No answer is a page: whatever type a browser guesses, it runs nothing of the answer, shows it in
	// no frame, and sends the address, of which a token may be a part, to nobody.
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store") // and readings change from second to second
	if s.o.Compat == Compat02 {
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", "X-AUTH-TOKEN, X-CSRF-Token")
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "X-AUTH-TOKEN, X-CSRF-Token, Authorization, Content-Type, Last-Event-ID, Cache-Control")
	h.Set("Access-Control-Expose-Headers", "Retry-After, Location")
}

// corsMaxAge is how long (s) a browser may remember the answer to OPTIONS, so that a page that asks
// every few seconds does not ask twice each time.
const corsMaxAge = "600"

// options answers OPTIONS on any path, also one that does not exist, without a token: browsers send
// none.
func (s *Server) options(w *recorder, r *http.Request) {
	if s.o.Compat != Compat02 {
		w.Header().Set("Allow", s.allow(routable(r).URL.Path))
		w.Header().Set("Access-Control-Max-Age", corsMaxAge)
	}
	s.writeJSON(w, http.StatusOK, message{"Success"})
}
