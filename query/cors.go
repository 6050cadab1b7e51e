package query

import "net/http"

// setCommonHeaders is called before anything else, so that a browser can read every answer, errors included.
func (s *Server) setCommonHeaders(h http.Header) {
	h.Set("Access-Control-Allow-Origin", s.o.CORS)
	if s.o.Compat == Compat02 {
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", "X-AUTH-TOKEN, X-CSRF-Token")
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "X-AUTH-TOKEN, X-CSRF-Token, Authorization, Content-Type, Last-Event-ID")
	// Readings change from second to second, and a token may be part of the address.
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// options answers OPTIONS on any path, also those that do not exist, without a token: browsers send none.
func (s *Server) options(w *recorder, r *http.Request) {
	if s.o.Compat != Compat02 {
		w.Header().Set("Allow", s.allow(routable(r).URL.Path))
	}
	s.writeJSON(w, http.StatusOK, message{"Success"})
}
