//go:build e2e

// Package redis runs Redis and Valkey for tests: servers of their own on ports
// of loopback, which end with the test. test/setup.sh installs both.
package redis

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Kind is a server program.
type Kind string

// The programs.
const (
	Redis  Kind = "redis" // of this machine
	Valkey Kind = "valkey"
)

// startWithin is how long a server may take to start, and a group of servers
// to find each other.
const startWithin = 30 * time.Second

// Server is a server that was started by a test.
type Server struct {
	// Addr is where it listens, Dir where its files are.
	Addr, Dir string
	// CLI is what redis-cli needs to be let in, such as --tls.
	CLI []string

	t    testing.TB
	kind Kind
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// Start starts a server with more arguments, as on its command line. It keeps
// nothing on disk, unless they say so.
func Start(t testing.TB, kind Kind, args ...string) *Server {
	t.Helper()
	s := New(t, kind, args...)
	s.Start()
	return s
}

// New returns a server that is not yet running.
func New(t testing.TB, kind Kind, args ...string) *Server {
	t.Helper()
	port := strconv.Itoa(FreePort(t))
	s := &Server{t: t, kind: kind, Addr: "127.0.0.1:" + port, Dir: t.TempDir()}
	s.args = append([]string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "notice",
	}, args...)
	if kind == Redis {
		s.args = append(s.args, "--dir", s.Dir)
	}
	return s
}

// TLSOnly makes a server that is not yet running listen for TLS only.
func (s *Server) TLSOnly() {
	s.args = append(s.args, "--port", "0", "--tls-port", s.Port())
}

// lastPort is the port that FreePort gave last.
var lastPort atomic.Uint32

// FreePort returns a port that nobody listens on, another one each time, and low
// enough for what a member of a cluster adds to it. It is none of those from which
// the kernel takes ports for connections.
func FreePort(t testing.TB) int {
	t.Helper()
	const low, number = 15_000, 15_000
	lastPort.CompareAndSwap(0, uint32(os.Getpid()))
	for range number {
		port := low + int(lastPort.Add(1)%number)
		// To listen there would tell too, but a program that is started at that
		// moment holds the port for a while.
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return port
		}
		if err == nil {
			c.Close()
		}
	}
	t.Fatal("no port is free")
	return 0
}

// Start starts the server, or starts it again.
func (s *Server) Start() {
	s.t.Helper()
	s.run(s.command(s.args))
	s.Await("an answer", func() bool {
		out, err := s.Try("PING")
		return err == nil && out == "PONG" || strings.HasPrefix(out, "NOAUTH")
	})
}

func (s *Server) command(args []string) *exec.Cmd {
	if s.kind == Redis {
		return exec.Command("redis-server", args...)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = "/var/cache"
	}
	cmd := exec.Command("/usr/bin/valkey-server", args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: filepath.Join(cache, "tlspolicyd-test", "trixie")}
	return cmd
}

func (s *Server) run(cmd *exec.Cmd) {
	s.t.Helper()
	s.out.Reset()
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	s.t.Cleanup(func() {
		if s.cmd == cmd {
			s.Kill()
		}
	})
}

// Kill ends the server as with kill -9.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	_ = s.cmd.Wait() // It was killed.
	s.cmd = nil
}

// Stop stops the server in the midst of what it does, and Continue lets it go on.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue lets a stopped server go on.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Try asks the server something with redis-cli.
func (s *Server) Try(args ...string) (string, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return "", err
	}
	cmd := exec.Command("redis-cli", append(append([]string{"-h", host, "-p", port}, s.CLI...), args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimRight(string(out), "\n"), err
}

// Do asks the server something, and fails the test if it does not do it.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	out, err := s.Try(append([]string{"-e"}, args...)...)
	if err != nil {
		s.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return out
}

// Await waits until what is the case.
func (s *Server) Await(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(startWithin); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			out := "(running)"
			if s.cmd != nil {
				s.Kill()
				out = s.out.String()
			}
			s.t.Fatalf("no %s of %s\n%s", what, s.Addr, out)
		}
	}
}

// Port returns the port of the server.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// StartReplica starts a server that follows master.
func StartReplica(t testing.TB, master *Server, args ...string) *Server {
	t.Helper()
	r := Start(t, Redis, append([]string{
		"--replicaof", "127.0.0.1 " + master.Port(), "--repl-diskless-sync-delay", "0",
	}, args...)...)
	r.Await("replica", func() bool {
		out, err := r.Try("INFO", "replication")
		return err == nil && strings.Contains(out, "master_link_status:up")
	})
	return r
}

// StartSentinels starts three sentinels that watch master as "mymaster", with
// more lines in their configuration.
func StartSentinels(t testing.TB, master *Server, lines ...string) []*Server {
	t.Helper()
	var all []*Server
	for range 3 {
		s := New(t, Redis)
		config := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor mymaster 127.0.0.1 %s 2\n"+
			"sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n%s\n",
			s.Port(), s.Dir, master.Port(), strings.Join(lines, "\n"))
		StartSentinel(t, s, config)
		all = append(all, s)
	}
	for _, s := range all {
		s.Await("quorum", func() bool {
			out, err := s.Try("SENTINEL", "ckquorum", "mymaster")
			return err == nil && strings.HasPrefix(out, "OK 3") || strings.HasPrefix(out, "NOAUTH")
		})
	}
	return all
}

// StartSentinel starts s, which is not yet running, as a sentinel.
func StartSentinel(t testing.TB, s *Server, config string) {
	t.Helper()
	file := filepath.Join(s.Dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{file, "--sentinel"}
	s.Start()
}

// StartCluster starts a cluster of three masters.
func StartCluster(t testing.TB) []*Server {
	t.Helper()
	return startCluster(t, 3)
}

// StartClusterWithReplicas starts a cluster of three masters, which come first,
// and a replica of each.
func StartClusterWithReplicas(t testing.TB) []*Server {
	t.Helper()
	all := startCluster(t, 6, "--cluster-replicas", "1")
	for _, s := range all[3:] {
		s.Await("replica", func() bool {
			out, err := s.Try("INFO", "replication")
			return err == nil && strings.Contains(out, "master_link_status:up")
		})
	}
	return all
}

func startCluster(t testing.TB, size int, how ...string) []*Server {
	t.Helper()
	var all []*Server
	create := []string{"--cluster", "create"}
	for range size {
		s := Start(t, Redis, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(FreePort(t)),
			"--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
		all, create = append(all, s), append(create, s.Addr)
	}
	create = append(append(create, how...), "--cluster-yes")
	if out, err := exec.Command("redis-cli", create...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range all {
		s.Await("cluster", func() bool {
			out, err := s.Try("CLUSTER", "INFO")
			return err == nil && strings.Contains(out, "cluster_state:ok")
		})
	}
	return all
}
