package socketmap_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/netstring"
)

// Over the real thing, both kinds of it.
func TestClientAndServer(t *testing.T) {
	srv := &socketmap.Server{Handler: echo}
	tcp, unix := listen(t, "127.0.0.1:0"), listen(t, "unix:"+socketPath(t))
	served := make(chan error)
	for _, l := range []net.Listener{tcp, unix} {
		go func() { served <- srv.Serve(l) }()
	}
	for _, addr := range []string{tcp.Addr().String(), "unix:" + unix.Addr().String()} {
		c, err := socketmap.Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"example.com", "", "a b", strings.Repeat("k", socketmap.MaxKey)} {
			got, err := c.Lookup(t.Context(), "policy", key)
			want := socketmap.Reply{Status: socketmap.OK, Text: "policy|" + key}
			if err != nil || got != want {
				t.Errorf("%s: got %v, %v, want %v", addr, got, err, want)
			}
		}
		c.Close()
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	for range 2 {
		if err := <-served; !errors.Is(err, socketmap.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	}
}

func TestDialFails(t *testing.T) {
	for _, addr := range []string{"", "localhost", "unix:" + socketPath(t)} {
		if c, err := socketmap.Dial(t.Context(), addr); err == nil {
			t.Errorf("Dial(%q) succeeded", addr)
			c.Close()
		}
	}
}

// answerWith lets a client ask a server that answers with the given bytes and
// closes the connection.
func answerWith(t *testing.T, answer string) (socketmap.Reply, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		if _, err := netstring.NewReader(far, socketmap.MaxRequest).ReadFrame(); err != nil {
			t.Errorf("reading the request: %v", err)
		}
		// A client that has seen enough reads no further.
		if _, err := io.WriteString(far, answer); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("writing the answer: %v", err)
		}
	}()
	c := socketmap.NewClient(near)
	defer c.Close()
	reply, err := c.Lookup(t.Context(), "policy", "example.com")
	if _, again := c.Lookup(t.Context(), "policy", "example.com"); err != nil && !errors.Is(again, err) {
		t.Errorf("after %v, the next lookup gave %v", err, again)
	}
	return reply, err
}

func TestClientAccepts(t *testing.T) {
	long := strings.Repeat("x", socketmap.MaxReply-3)
	for answer, want := range map[string]socketmap.Reply{
		"9:NOTFOUND ,":            {Status: socketmap.NotFound},
		"6:OK a b,":               {Status: socketmap.OK, Text: "a b"},
		"3:OK ,":                  {Status: socketmap.OK},
		"8:TEMP why,":             {Status: socketmap.Temp, Text: "why"},
		"11:TIMEOUT why,":         {Status: socketmap.Timeout, Text: "why"},
		"8:PERM why,":             {Status: socketmap.Perm, Text: "why"},
		"100000:OK " + long + ",": {Status: socketmap.OK, Text: long},
	} {
		if got, err := answerWith(t, answer); err != nil || got != want {
			t.Errorf("%.40q: got %.40v, %v, want %.40v", answer, got, err, want)
		}
	}
}

func TestClientRejects(t *testing.T) {
	tests := []struct {
		name, answer string
		want         error
	}{
		{"no answer", "", io.ErrUnexpectedEOF},
		{"half an answer", "9:NOTF", io.ErrUnexpectedEOF},
		{"not a netstring", "OK\n", netstring.ErrSyntax},
		{"too long", "100001:OK ", netstring.ErrTooLong},
		{"empty", "0:,", socketmap.ErrReply},
		{"no blank", "8:NOTFOUND,", socketmap.ErrReply},
		{"unknown status", "6:OKAY a,", socketmap.ErrReply},
		{"lower case", "4:ok a,", socketmap.ErrReply},
		{"two replies", "4:OK a,4:OK b,", socketmap.ErrReply},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := answerWith(t, tt.answer)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestClientRefusesToAsk(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := socketmap.NewClient(near)
	defer c.Close()
	for _, req := range []socketmap.Request{{Map: "a b", Key: "c"}, {Map: "m", Key: strings.Repeat("k", socketmap.MaxRequest-1)}} {
		if _, err := c.Lookup(t.Context(), req.Map, req.Key); !errors.Is(err, socketmap.ErrRequest) {
			t.Errorf("%.20v: error is %v, want ErrRequest", req, err)
		}
	}
}

func TestClientWaits(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration // of the caller; 0 is none
		want    error
		after   time.Duration
	}{
		{"as long as the caller wants", 3 * time.Second, context.DeadlineExceeded, 3 * time.Second},
		{"but not for ever", 0, nil, 100 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				go func() {
					if _, err := io.Copy(io.Discard, far); err != nil && !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("reading the request: %v", err)
					}
				}()
				ctx := t.Context()
				if tt.timeout != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.timeout)
					defer cancel()
				}
				begin := time.Now()
				_, err := socketmap.NewClient(near).Lookup(ctx, "policy", "example.com")
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("error is %v, want %v", err, tt.want)
				}
				if took := time.Since(begin); took != tt.after {
					t.Errorf("it took %v, want %v", took, tt.after)
				}
			})
		})
	}
}

func BenchmarkServer(b *testing.B) {
	h := socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		return socketmap.Reply{Status: socketmap.NotFound}
	})
	nc, err := net.Dial("tcp", serveTCP(b, &socketmap.Server{Handler: h}))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	request := netstring.Append(nil, "policy example.com")
	in := netstring.NewReader(nc, socketmap.MaxReply)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nc.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := in.ReadFrame(); err != nil {
			b.Fatal(err)
		}
	}
}
