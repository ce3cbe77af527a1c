//go:build e2e

package world

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Usage is what the daemon has used of the machine.
type Usage struct {
	// Anon is memory of its own, and File memory that is a window on files, in
	// bytes at present (proc(5): RssAnon, RssFile).
	Anon, File int64
	// CPU is the time that it has computed.
	CPU time.Duration
	// Written is how many bytes it has had written to disks.
	Written int64
}

// clockTick is the unit of times in /proc/PID/stat, which Linux shows to
// programs as a hundredth of a second on every machine that Go runs on.
const clockTick = 10 * time.Millisecond

// Usage reads what the daemon has used so far.
func (d *Daemon) Usage(t testing.TB) Usage {
	t.Helper()
	status, io := d.fields(t, "status"), d.fields(t, "io")
	return Usage{
		Anon: status["RssAnon"] << 10, File: status["RssFile"] << 10,
		CPU: d.cpu(t), Written: io["write_bytes"],
	}
}

// fields reads a file of /proc with lines "Name: number".
func (d *Daemon) fields(t testing.TB, file string) map[string]int64 {
	t.Helper()
	data := d.proc(t, file)
	fields := make(map[string]int64)
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			fields[name] = n
		}
	}
	return fields
}

// cpu reads the times in user and in system mode: fields 14 and 15, of which
// the second, a name in brackets, may hold anything (proc(5)).
func (d *Daemon) cpu(t testing.TB) time.Duration {
	t.Helper()
	data := d.proc(t, "stat")
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var ticks time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatalf("reading the CPU time: %v", err)
		}
		ticks += time.Duration(n)
	}
	return ticks * clockTick
}

func (d *Daemon) proc(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", d.cmd.Process.Pid, file))
	if err != nil {
		t.Fatalf("what the daemon uses: %v", err)
	}
	return data
}
