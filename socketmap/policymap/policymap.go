// Package policymap answers what smtp_tls_policy_maps of Postfix asks: it
// turns the name of a map and a key into a question about a next-hop, and the
// verdict on that into a TLS policy.
//
// It decides nothing: [Decider] does. It looks nothing up, but the ports of
// services by name. Keys that no mail domain can have, which Postfix asks for
// all the time (".com" after every domain that was not found), are answered
// without the decider.
//
// Limits: a key of 1,024 bytes, a policy of 100,000 bytes with its status, a
// reason of 200 bytes; 20 names of unknown maps and 1,000 domains of each kind
// of warning are remembered.
//
// Security: nothing that a domain publishes gets into a policy but names made
// of letters, digits, hyphens and dots, and, in braces, lines that have
// neither braces nor control characters.
//
// Specification: smtp_tls_policy_maps in postconf(5) of Postfix; RFC 8461,
// section 3.4 (which domain's policy applies).
package policymap

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
)

// Decider decides about mail to a next-hop, as of the time at which Postfix asked.
// It always answers, and in bounded time.
type Decider interface {
	Lookup(ctx context.Context, asked time.Time, hop policy.NextHop, class policy.Class) policy.Verdict
}

// Metrics returns what counts the requests for a map with one result. It is
// asked for each pair of them once, by [New], and not for each request. The name
// of the map is that of the table of maps, or "other"; the result is that of
// [policy.Kind.String].
type Metrics interface {
	Requests(mapName, result string) (count func(took time.Duration))
}

// Options are what a handler may be told. The zero value is of use.
type Options struct {
	// Keys says how keys are read.
	Keys KeyRules
	// Log is the log; nil means none.
	Log *zap.Logger
	// Metrics counts; nil means that nobody does.
	Metrics Metrics
}

// How many of what is warned about once are remembered.
const (
	maxMapNames = 20
	maxDomains  = 1000
)

// Handler is the [socketmap.Handler] of the policy maps.
type Handler struct {
	decider Decider
	keys    KeyRules
	log     *zap.Logger
	// maps are those of the table of maps, and other is every other one.
	maps  []servedMap
	other servedMap

	// What has been warned about.
	unknownMaps, unlistedHosts, shortened onceSet
}

// New returns a handler that asks decider.
func New(decider Decider, o Options) *Handler {
	h := &Handler{
		decider: decider, keys: o.Keys, log: o.Log,
		unknownMaps:   onceSet{max: maxMapNames},
		unlistedHosts: onceSet{max: maxDomains},
		shortened:     onceSet{max: maxDomains},
	}
	if h.log == nil {
		h.log = zap.NewNop()
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	for i := range maps {
		h.maps = append(h.maps, serve(maps[i].m, o.Metrics))
	}
	h.other = serve(otherMap, o.Metrics)
	return h
}

// noMetrics counts nothing.
type noMetrics struct{}

func (noMetrics) Requests(string, string) func(time.Duration) { return func(time.Duration) {} }

// ServeSocketmap answers a request.
func (h *Handler) ServeSocketmap(ctx context.Context, req socketmap.Request, text []byte) (socketmap.Status, []byte) {
	m := h.find(req.Map)
	reply, kind := h.answer(ctx, req.Asked, m, req.Key, text)
	took := time.Since(req.Asked)
	m.counters[kind](took)
	if ce := h.log.Check(zap.DebugLevel, "answered"); ce != nil {
		ce.Write(zap.String("map", m.Name), zap.String("key", shorten(req.Key)),
			zap.Stringer("result", kind), zap.Duration("took", took))
	}
	return reply.status, reply.text
}

// find finds the map of a name; one that is not known is warned about.
func (h *Handler) find(name string) *servedMap {
	if i := indexOfMap(name); i >= 0 {
		return &h.maps[i]
	}
	h.warnUnknownMap(name)
	return &h.other
}

// answer answers for a key, and says what the answer is counted as.
func (h *Handler) answer(ctx context.Context, asked time.Time, m *servedMap, key string, text []byte) (rendered, policy.Kind) {
	hop, err := ParseKey(key, h.keys)
	if err != nil {
		// No mail domain: none of our business, and no error either.
		return rendered{status: socketmap.NotFound, text: text}, policy.NotFound
	}
	v := h.decider.Lookup(ctx, asked, hop, m.Class)
	reply := render(text, &v, m.TLSRPT)
	if reply.left != leftNothing {
		h.warnShortened(&v, reply.left)
	}
	if v.Kind != policy.Secure {
		return reply, v.Kind
	}
	if reply.status != socketmap.OK {
		return reply, policy.Temp
	}
	if hop.SmartHost {
		h.warnUnlistedHost(&v, hop)
	}
	return reply, v.Kind
}

func (h *Handler) warnUnknownMap(name string) {
	name = shorten(name)
	if h.unknownMaps.first(name) {
		h.log.Warn("a map of unknown name is asked for; it is answered as the map postfix, without regard to DANE",
			zap.String("map", name))
	}
}

func (h *Handler) warnShortened(v *policy.Verdict, left omission) {
	if h.shortened.first(v.Domain.String()) {
		h.log.Warn("the policy is too long for Postfix with all attributes for reports; the policy itself is enforced",
			zap.Stringer("domain", v.Domain), zap.Stringer("left_out", left))
	}
}

// warnUnlistedHost says that Postfix will refuse to deliver: the smart host is
// the only host that it tries (RFC 8461, section 3.4).
func (h *Handler) warnUnlistedHost(v *policy.Verdict, hop policy.NextHop) {
	host := hop.Domain.String()
	for _, p := range v.Policy.MX {
		if p.Matches(host) {
			return
		}
	}
	if h.unlistedHosts.first(host) {
		h.log.Warn("the MTA-STS policy of a smart host does not list the host itself, so mail to it may be deferred; smart_hosts: false turns the policies of smart hosts off",
			zap.String("smart_host", host))
	}
}

// maxLogged is how many bytes of what was asked are logged.
const maxLogged = 300

func shorten(s string) string { return s[:min(len(s), maxLogged)] }
