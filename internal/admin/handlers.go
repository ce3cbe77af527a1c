package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// The number of domains on a page.
const (
	defaultPage = 500
	maxPage     = 1000
)

// badRequest is an error of who asks.
type badRequest string

// Error returns what is wrong.
func (e badRequest) Error() string { return string(e) }

// errNotKnown: there is nothing to tell of a domain.
type errNotKnown struct{ domain policy.Domain }

// Error names the domain.
func (e errNotKnown) Error() string { return fmt.Sprintf("nothing is known of %s", e.domain) }

// problem is the object that an error is sent as.
type problem struct {
	Error string `json:"error"`
	// NotKnown tells a domain that is not known from a page that there is not.
	NotKnown bool `json:"not_known,omitempty"`
}

func (s *Server) status(r *http.Request) (any, error) {
	st := s.o.Status()
	st.Store = s.storeStats(r.Context())
	return st, nil
}

func (s *Server) stats(r *http.Request) (any, error) {
	st := s.o.Status().Stats
	st.Store = s.storeStats(r.Context())
	return st, nil
}

// storeStats tells of a store also that it cannot tell.
func (s *Server) storeStats(ctx context.Context) StoreStats {
	st, err := s.o.Store.StoreStats(ctx)
	if err != nil {
		st.Error = err.Error()
	}
	return st
}

func (s *Server) list(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit := defaultPage
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, badRequest(fmt.Sprintf("limit is %q, and not a number from 1 to %d", text, maxPage))
		}
		limit = n
	}
	var after policy.Domain
	if text := query.Get("after"); text != "" {
		var err error
		if after, err = policy.ParseDomain(text); err != nil {
			return nil, badRequest(err.Error())
		}
	}
	records, err := s.o.Store.Scan(r.Context(), after, limit)
	if err != nil {
		return nil, err
	}
	page := Page{Domains: make([]Row, 0, len(records))}
	for i := range records {
		page.Domains = append(page.Domains, *s.row(&records[i]))
	}
	if len(records) == limit {
		page.Next = records[limit-1].Domain.String()
	}
	return page, nil
}

func (s *Server) show(r *http.Request) (any, error) {
	domain, err := domainOf(r)
	if err != nil {
		return nil, err
	}
	v := s.o.Cache.Inspect(r.Context(), domain)
	if !v.Known() {
		return nil, errNotKnown{domain}
	}
	return s.domain(&v), nil
}

func (s *Server) refresh(r *http.Request) (any, error) {
	domain, err := domainOf(r)
	if err != nil {
		return nil, err
	}
	result, sts, err := s.o.Cache.Refresh(r.Context(), domain)
	if err != nil {
		return nil, err
	}
	return refreshed(domain, result, &sts), nil
}

func (s *Server) purge(r *http.Request) (any, error) {
	domain, err := domainOf(r)
	if err != nil {
		return nil, err
	}
	known, err := s.o.Cache.Purge(r.Context(), domain)
	switch {
	case err != nil:
		return nil, err
	case !known:
		return nil, errNotKnown{domain}
	default:
		return Purged{1}, nil
	}
}

func (s *Server) purgeAll(r *http.Request) (any, error) {
	n, err := s.o.Cache.PurgeAll(r.Context())
	if err != nil {
		return nil, fmt.Errorf("%w (domains purged: %d)", err, n)
	}
	return Purged{n}, nil
}

func domainOf(r *http.Request) (policy.Domain, error) {
	domain, err := policy.ParseDomain(r.PathValue("domain"))
	if err != nil {
		return policy.Domain{}, badRequest(err.Error())
	}
	return domain, nil
}

// reply sends v, or err. That nobody listens any more is no error.
func reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		var notKnown errNotKnown
		status, v = statusOf(err), problem{Error: err.Error(), NotKnown: errors.As(err, &notKnown)}
	}
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

func statusOf(err error) int {
	var bad badRequest
	var notKnown errNotKnown
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.As(err, &notKnown):
		return http.StatusNotFound
	case errors.Is(err, cache.ErrBusy), errors.Is(err, cache.ErrClosed), errors.Is(err, cache.ErrCutShort):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// noPage answers whoever asks for what there is not.
func noPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, fmt.Sprintf("This daemon has no page %s %q. Use the commands tlspolicyd status and tlspolicyd cache.\n", r.Method, r.URL.Path))
}
