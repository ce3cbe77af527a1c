package dnsclient

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// defaultPort is the port of DNS servers (RFC 1035, section 4.2).
const defaultPort = 53

// homing is how often one query tries the first server of the list again
// while another is preferred to it: the administrator put it first, and it
// may be the only one whose AD bit counts.
const homing = 30 * time.Second

// ErrServer is wrapped by the errors of [ParseServer].
var ErrServer = errors.New("not the address of a DNS server")

// ParseServer reads the address of a server: an IPv4 or IPv6 address, the
// latter with a zone or not, and a port (53 if there is none). With a port an
// IPv6 address stands in brackets.
func ParseServer(s string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		addr, err := netip.ParseAddr(withoutBrackets(s))
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: %q", ErrServer, s)
		}
		ap = netip.AddrPortFrom(addr, defaultPort)
	}
	if ap.Port() == 0 || ap.Addr().IsMulticast() || ap.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("%w: %q", ErrServer, s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// withoutBrackets turns "[::1]" into "::1".
func withoutBrackets(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' && s[1] != '[' {
		return s[1 : len(s)-1]
	}
	return s
}

// endpoint is what is configured of a server.
type endpoint struct {
	addr netip.AddrPort
	// trustAD says that its AD bit counts.
	trustAD bool
}

// newEndpoint trusts the AD bit of a server on a loopback address, and of any
// other that is blessed by the configuration (RFC 6840, section 5.8 and
// RFC 7672, section 2.1.1: only over a secure channel).
func newEndpoint(addr netip.AddrPort, blessed trust) endpoint {
	return endpoint{addr: addr, trustAD: blessed == trusted || addr.Addr().IsLoopback()}
}

// trust says whether the configuration makes the AD bit of a server count.
type trust uint8

const (
	untrusted trust = iota
	trusted
)

// server is a server and what was learned about it. It lives as long as the
// server is listed, across changes of the list.
type server struct {
	endpoint
	// last is the last test; nil before the first.
	last atomic.Pointer[test]
	// doubted says that the server was silent since its last test began.
	doubted atomic.Bool
}

// passed reports whether the last test was passed.
func (s *server) passed() bool {
	t := s.last.Load()
	return t != nil && t.outcome == OutcomePassed
}

// security is what a message from the server says of its own DNSSEC
// validation.
func (s *server) security(m *dns.Msg) Security {
	switch {
	case m.AuthenticatedData && s.trustAD:
		return Secure
	case s.passed():
		return Insecure
	default:
		return Unknown
	}
}

// foundBogus reports whether a failure may be the server's word that the data
// are bogus. That is final: a server that does not validate would give them.
func (s *server) foundBogus(k Kind) bool {
	return k == KindServFail && s.passed()
}

// doubt makes the next test of a server that was silent due at once.
func (s *server) doubt(k Kind) {
	if k == KindNetwork || k == KindTimeout {
		s.doubted.Store(true)
	}
}

// pool is a list of servers, in the order of the configuration.
type pool struct {
	servers []*server
	// trusts says that the AD bit of at least one of them counts.
	trusts bool
	start  time.Time
	// preferred is the index of the server that answered last.
	preferred atomic.Int32
	// homeAt is when the first server is tried again though another one is
	// preferred, counted from start.
	homeAt atomic.Int64
}

// newPool makes the pool of a list that is not empty. Servers that old knows
// keep what was learned about them; old may be nil.
func newPool(list []endpoint, old *pool) *pool {
	p := &pool{start: time.Now()}
	for _, e := range list {
		p.servers = append(p.servers, old.find(e))
		p.trusts = p.trusts || e.trustAD
	}
	return p
}

// find returns the pool's server of e, or a new one.
func (p *pool) find(e endpoint) *server {
	if p != nil {
		for _, s := range p.servers {
			if s.endpoint == e {
				return s
			}
		}
	}
	return &server{endpoint: e}
}

// same reports whether the pool is the one of list.
func (p *pool) same(list []endpoint) bool {
	if len(list) != len(p.servers) {
		return false
	}
	for i, s := range p.servers {
		if s.endpoint != list[i] {
			return false
		}
	}
	return true
}

// order returns the servers in the order in which a query is to try them: those
// first that passed their last test, since nobody else can tell that an answer
// is insecure.
func (p *pool) order() []*server {
	first := p.first()
	order := make([]*server, 0, len(p.servers))
	var others []*server
	for i := range p.servers {
		s := p.servers[(first+i)%len(p.servers)]
		if s.passed() {
			order = append(order, s)
		} else {
			others = append(others, s)
		}
	}
	return append(order, others...)
}

// first is the index of the server to begin with: the one that answered
// last, but now and then, for one query, the first of the list.
func (p *pool) first() int {
	first := int(p.preferred.Load())
	if first == 0 {
		return 0
	}
	now, due := int64(time.Since(p.start)), p.homeAt.Load()
	if now >= due && p.homeAt.CompareAndSwap(due, now+int64(homing)) {
		return 0
	}
	return first
}

// answered makes s the preferred server. One whose AD bit does not count is
// never preferred while there is one whose does: a domain that makes the
// latter fail must not take the proof away from all others.
func (p *pool) answered(s *server) {
	preferred := int(p.preferred.Load())
	if p.servers[preferred] == s || p.trusts && !s.trustAD {
		return
	}
	for i := range p.servers {
		if p.servers[i] != s {
			continue
		}
		if preferred == 0 {
			p.homeAt.Store(int64(time.Since(p.start) + homing))
		}
		p.preferred.Store(int32(i))
		return
	}
}
