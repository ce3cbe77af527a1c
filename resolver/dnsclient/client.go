package dnsclient

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// Options are what a [Client] is made from. The zero value is of use.
type Options struct {
	// Servers are the addresses of the servers to ask, see [ParseServer].
	// None means those of ResolvConf.
	Servers []string
	// ResolvConf is the path of the resolv.conf to follow; empty means
	// /etc/resolv.conf. It is not looked at where there are Servers.
	ResolvConf string
	// Timeout is how long one try may last; 0 means 2 s.
	Timeout time.Duration
	// Attempts is how many tries of a query may fail, over all servers; 0
	// means 3.
	Attempts int
	// TrustAD makes the AD bit of every server count, not only of those on
	// loopback addresses.
	TrustAD bool
	// MaxInFlight is how many queries may be under way at once, each with
	// one socket; 0 means 4096. The others wait.
	MaxInFlight int
	// Dial opens a connection to a server, over "udp" or "tcp"; nil means
	// that of net.Dialer. A "udp" connection keeps the bounds of messages,
	// and gives those of its peer only.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log takes messages about servers; nil means none.
	Log *zap.Logger
	// Metrics counts queries; nil means that nobody does.
	Metrics Metrics
}

// Metrics counts queries, and shows whether DANE can work.
type Metrics interface {
	// QueryDone is called once for every query. The type is that of a
	// question of this program ("TXT"), or "other"; the result is "ok",
	// "nodata", "nxdomain", or the kind of an [Error].
	QueryDone(qtype, result string)
	// Validating is called after every test of servers, with 1 if one passed
	// when it was tested last, else with 0: none that validates answers.
	Validating(on int)
}

// Client asks the DNS. It is safe for concurrent use.
type Client struct {
	servers  *source
	timeout  time.Duration
	attempts int
	slots    chan struct{}
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	log      *zap.Logger
	metrics  Metrics

	// testing is held by whoever tests servers, and guards told.
	testing chan struct{}
	told    told
}

// New makes a client. It fails for a server that is not an address, and for a
// negative limit; a resolv.conf that cannot be read is no error, but means
// the servers of this host.
func New(o Options) (*Client, error) {
	o = o.withDefaults()
	if o.Timeout < 0 || o.Attempts < 0 || o.MaxInFlight < 0 {
		return nil, fmt.Errorf("dns client: negative limit: timeout %v, attempts %d, in flight %d", o.Timeout, o.Attempts, o.MaxInFlight)
	}
	servers, err := o.source()
	if err != nil {
		return nil, fmt.Errorf("dns client: %w", err)
	}
	return &Client{
		servers: servers, timeout: o.Timeout, attempts: o.Attempts,
		slots: make(chan struct{}, o.MaxInFlight),
		dial:  o.Dial, log: o.Log, metrics: o.Metrics,
		testing: make(chan struct{}, 1),
	}, nil
}

func (o Options) withDefaults() Options {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4096
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	return o
}

// source makes the list of servers, or the way to it.
func (o Options) source() (*source, error) {
	blessed := untrusted
	if o.TrustAD {
		blessed = trusted
	}
	if len(o.Servers) == 0 {
		return followed(&resolvFile{path: o.ResolvConf, blessed: blessed}, o.Log), nil
	}
	var list []endpoint
	for _, s := range o.Servers {
		addr, err := ParseServer(s)
		if err != nil {
			return nil, err
		}
		list = append(list, newEndpoint(addr, blessed))
	}
	return fixed(list, o.Log), nil
}

// Query asks for the records of a type that name has. The name is absolute,
// with or without its final dot, in any case. Aliases are followed, unless
// they are what is asked for. The error is always an [*Error].
func (c *Client) Query(ctx context.Context, name string, qtype uint16) (Answer, error) {
	a, err := c.query(ctx, name, qtype)
	if err != nil {
		c.metrics.QueryDone(typeLabel(qtype), err.Result())
		return Answer{}, err
	}
	c.metrics.QueryDone(typeLabel(qtype), resultOf(a))
	return a, nil
}

func (c *Client) query(ctx context.Context, name string, qtype uint16) (Answer, *Error) {
	absolute, err := canonical(name)
	if err != nil {
		return Answer{}, &Error{Kind: KindName, Name: name, Type: qtype, Err: err}
	}
	if err := c.enter(ctx); err != nil {
		return Answer{}, &Error{Kind: kindOf(ctx, err), Name: absolute, Type: qtype, Err: err}
	}
	defer c.leave()
	return c.follow(ctx, newChain(absolute, qtype))
}

// enter waits for a slot.
func (c *Client) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for other queries: %w", ctx.Err())
	}
}

func (c *Client) leave() { <-c.slots }

// follow asks until the chain of aliases ends.
func (c *Client) follow(ctx context.Context, ch chain) (Answer, *Error) {
	tries := c.attempts
	for !ch.done {
		var err *Error
		if ch, err = c.ask(ctx, ch, &tries); err != nil {
			return Answer{}, err
		}
	}
	return ch.answer, nil
}

// ask asks for the end of the chain, one server after the other, and returns
// the chain with what it learned. Every failure uses up one of the tries.
func (c *Client) ask(ctx context.Context, ch chain, tries *int) (chain, *Error) {
	servers := c.servers.current()
	var failure *Error
	for list := servers.order(); len(list) > 0 && *tries > 0; list = list[1:] {
		s := list[0]
		next, err := c.try(ctx, s, ch)
		if err == nil {
			// A failure that another server spoke of may be the domain's.
			if failure == nil || failure.Kind.retry() {
				servers.answered(s)
			}
			return next, nil
		}
		c.log.Debug("DNS server gave no answer", zap.String("server", err.Server), zap.String("result", err.Result()), zap.Error(err))
		*tries--
		s.doubt(err.Kind)
		failure = err.over(failure)
		if err.Kind.final() || s.foundBogus(err.Kind) || ctx.Err() != nil {
			return ch, err
		}
		if err.Kind.retry() {
			list = append(list, s)
		}
	}
	return ch, failure
}

// try asks one server, and reads its answer.
func (c *Client) try(ctx context.Context, s *server, ch chain) (chain, *Error) {
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	next, err := c.learn(within, s, ch)
	if err != nil {
		return ch, &Error{Kind: kindOf(ctx, err), Server: s.addr.String(), Name: ch.name, Type: ch.qtype, Err: err}
	}
	return next, nil
}

func (c *Client) learn(ctx context.Context, s *server, ch chain) (chain, error) {
	m, err := c.exchange(ctx, s, ch.question())
	if err != nil {
		return ch, err
	}
	return ch.add(m, s.security(m))
}

type noMetrics struct{}

func (noMetrics) QueryDone(string, string) {}
func (noMetrics) Validating(int)           {}

// typeLabel bounds the labels of metrics.
func typeLabel(qtype uint16) string {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypeTLSA, dns.TypeTXT:
		return typeName(qtype)
	default:
		return "other"
	}
}

func resultOf(a Answer) string {
	switch {
	case len(a.Records) > 0:
		return "ok"
	case a.Exists:
		return "nodata"
	default:
		return "nxdomain"
	}
}
