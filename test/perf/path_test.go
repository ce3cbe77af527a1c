package perf_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/memstore"
	"tlspolicyd/internal/metrics"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/netstring"
	"tlspolicyd/socketmap/policymap"
)

// file is a policy of the size of those that large hosters publish.
const file = `version: STSv1
mode: enforce
mx: mx1.d0001.example
mx: mx2.d0001.example
mx: mx3.d0001.example
mx: *.mail.d0001.example
max_age: 604800
`

// known is a network on which every domain but those below "none" has a
// policy, and no MX record is signed. It answers at once.
type known struct{ policy *policy.STSPolicy }

func (k known) Look(_ context.Context, d policy.Domain, prev policy.STS) policy.STS {
	now := time.Now()
	prev.Lost, prev.Looked, prev.Recheck = false, now, now.Add(time.Hour)
	prev.Record = policy.RecordAbsent
	if d.String() != absent {
		prev.Record, prev.Wanted = policy.RecordFound, "1"
	}
	return prev
}

func (k known) Adopt(prev policy.STS, _ *policy.STSPolicy, _ string, _ time.Time) policy.STS {
	return prev
}

func (k known) Fetch(_ context.Context, _ policy.Domain, prev policy.STS) policy.STS {
	prev.Policy, prev.ID, prev.Fetched, prev.Wanted = k.policy, "1", time.Now(), ""
	return prev
}

func (known) DANE(context.Context, policy.NextHop, policy.DANE) policy.DANE {
	now := time.Now()
	return policy.DANE{MX: policy.MXInsecure, Learned: now, Expires: now.Add(time.Hour)}
}

// present and absent are domains with and without a policy.
const present, absent = "d0001.example", "none.example"

// newServer makes everything that is between the socket and the network.
func newServer(b testing.TB) *socketmap.Server {
	b.Helper()
	p, err := mtasts.ParsePolicy(file)
	if err != nil {
		b.Fatal(err)
	}
	counts := metrics.New(metrics.Options{})
	memory, err := cache.New(cache.Options{
		Store: memstore.New(memstore.Options{}), Resolver: known{p}, Parse: mtasts.ParsePolicy, Metrics: counts,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := memory.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	return &socketmap.Server{Handler: policymap.New(memory, policymap.Options{Metrics: counts}), Metrics: counts}
}

// serve serves l until the benchmark ends.
func serve(b testing.TB, l net.Listener) {
	b.Helper()
	s := newServer(b)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		if err := <-done; !errors.Is(err, socketmap.ErrServerClosed) {
			b.Error(err)
		}
	})
}

// questions is a connection on which a question comes as long as more says so:
// what the program does with it is all that it costs.
type questions struct {
	net.Conn // nil: nothing else is called
	more     func() bool
	frame    []byte
	once     sync.Once
	done     chan struct{}
}

func newQuestions(more func() bool, mapName, key string) *questions {
	return &questions{more: more, frame: netstring.Append(nil, mapName, " ", key), done: make(chan struct{})}
}

func (q *questions) Read(p []byte) (int, error) {
	if !q.more() {
		return 0, io.EOF
	}
	return copy(p, q.frame), nil
}

func (q *questions) Write(p []byte) (int, error) { return len(p), nil }

func (q *questions) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

func (q *questions) SetReadDeadline(time.Time) error  { return nil }
func (q *questions) SetWriteDeadline(time.Time) error { return nil }

// given is a listener with the connections that it is given.
type given struct {
	conn   chan net.Conn
	closed chan struct{}
}

func newGiven() *given { return &given{conn: make(chan net.Conn, 1), closed: make(chan struct{})} }

func (s *given) Accept() (net.Conn, error) {
	select {
	case c := <-s.conn:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *given) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func (s *given) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// BenchmarkPath is all that the program does for an answer from memory:
// request, key, lookup, decision, reply, counts.
func BenchmarkPath(b *testing.B) {
	for _, test := range []struct{ name, mapName, key string }{
		{"secure", "policy", present},
		{"secure with attributes", "policy-tlsrpt", present},
		{"absent", "policy", absent},
		{"no domain", "policy", ".com"},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			l := newGiven()
			serve(b, l)
			q := newQuestions(b.Loop, test.mapName, test.key)
			cpu := cpuTime(b)
			l.conn <- q
			<-q.done
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkPathParallel is the same with as many connections as there are
// cores: what they wait for each other is the difference.
func BenchmarkPathParallel(b *testing.B) {
	b.ReportAllocs()
	l := newGiven()
	serve(b, l)
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		q := newQuestions(pb.Next, "policy", present)
		l.conn <- q
		<-q.done
	})
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkSocket is the same over a Unix socket, client and all, and beside it
// what the socket alone costs.
func BenchmarkSocket(b *testing.B) {
	b.Run("answer", func(b *testing.B) {
		l := listen(b)
		serve(b, l)
		ask(b, l.Addr().String())
	})
	b.Run("echo", func(b *testing.B) {
		l := listen(b)
		go echo(l)
		b.Cleanup(func() { l.Close() })
		ask(b, l.Addr().String())
	})
}

func listen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func echo(l net.Listener) {
	nc, err := l.Accept()
	if err != nil {
		return
	}
	defer nc.Close()
	reply := netstring.Append(nil, "OK secure match=mx1.d0001.example:mx2.d0001.example:mx3.d0001.example:.mail.d0001.example servername=hostname")
	in := netstring.NewReader(nc, socketmap.MaxRequest)
	for {
		if _, err := in.ReadFrame(); err != nil {
			return
		}
		if _, err := nc.Write(reply); err != nil {
			return
		}
	}
}

func ask(b *testing.B, path string) {
	b.Helper()
	b.ReportAllocs()
	nc, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	in, frame := netstring.NewReader(nc, socketmap.MaxReply), netstring.Append(nil, "policy "+present)
	cpu := cpuTime(b)
	for b.Loop() {
		if _, err := nc.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, err := in.ReadFrame(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// cpuTime is the CPU time of the benchmark so far: on a machine that does other
// things too it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
