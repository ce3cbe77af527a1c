package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tlspolicyd/socketmap"
)

// The program of the scripts is this one, but its default configuration is
// etc/tlspolicyd.yaml in the directory of the script.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tlspolicyd": func() {
			byDefault := filepath.Join(os.Getenv("WORK"), "etc", "tlspolicyd.yaml")
			os.Exit(run(context.Background(), os.Args[1:], byDefault, os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// Each script has a daemon at $ADDR, which knows the table of fakeReplies;
// daemon.yaml is a configuration that names it. The command exits N runs a
// program and wants exactly that code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               startFake,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// fakeReplies are the answers of the fake daemon, by map and key.
var fakeReplies = map[string]socketmap.Reply{
	"policy enforce.example":        {Status: socketmap.OK, Text: "secure match=mx.enforce.example servername=hostname"},
	"policy dane.example":           {Status: socketmap.OK, Text: "dane-only"},
	"policy broken.example":         {Status: socketmap.Temp, Text: "the MX lookup failed"},
	"policy [mx.example]:587":       {Status: socketmap.OK, Text: "dane-only"},
	"policy escape.example":         {Status: socketmap.Temp, Text: "two\nlines, \x1b[31mred"},
	"policy-tlsrpt enforce.example": {Status: socketmap.OK, Text: "secure match=mx.enforce.example servername=hostname policy_type=sts"},
}

func startFake(env *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &socketmap.Server{Handler: socketmap.HandlerFunc(func(_ context.Context, req socketmap.Request) socketmap.Reply {
		if r, ok := fakeReplies[req.Map+" "+req.Key]; ok {
			return r
		}
		return socketmap.Reply{Status: socketmap.NotFound}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	env.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-served); !errors.Is(err, socketmap.ErrServerClosed) {
			env.T().Fatal(err)
		}
	})
	env.Setenv("ADDR", l.Addr().String())
	env.Setenv("LONG", strings.Repeat("x", 11000))
	text := fmt.Sprintf("listen: [%q, unix:/nowhere]\n", l.Addr())
	return os.WriteFile(filepath.Join(env.WorkDir, "daemon.yaml"), []byte(text), 0o600)
}
