//go:build e2e

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// process is a program that runs beside the tests.
type process struct {
	name string
	cmd  *exec.Cmd
	out  Log
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// start starts a program, which is killed with its children when the test
// ends. attr is for a change of root.
func start(t testing.TB, cmd *exec.Cmd) (*process, error) {
	p := &process{name: cmd.Path, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	// A child that keeps the output open must not keep Wait.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p, nil
}

// kill ends the process and its group at once.
func (p *process) kill() {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		fmt.Fprintf(os.Stderr, "lab: killing %s: %v\n", p.name, err)
	}
	<-p.done
}

// until waits until ready says yes, the process has ended or the time is over.
func (p *process) until(ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	var last error
	for {
		if last = ready(ctx); last == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %w; it said:\n%s", p.name, p.err, p.out.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: %w; it said:\n%s", p.name, startWithin, last, p.out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// run runs a program to its end.
func run(path string, args ...string) ([]byte, error) {
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w: %s", path, args, err, out)
	}
	return out, nil
}
