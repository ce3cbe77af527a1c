package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat, which Linux shows to
// programs as a hundredth of a second on every machine that Go runs on.
const clockTick = 10 * time.Millisecond

// Fields of /proc/PID/stat after the name in brackets, which may hold anything
// (proc(5)): the times in user and in system mode.
const (
	firstTime = 11
	lastTime  = 12
)

// findServer finds out which process listens on the Unix socket (unix(7):
// SO_PEERCRED), if none is named.
func (l *load) findServer() error {
	if l.pid != 0 || !strings.HasPrefix(l.addr, "unix:") {
		return nil
	}
	nc, err := dial(context.Background(), l.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	raw, err := nc.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return fmt.Errorf("finding the process behind %q: %w", l.addr, err)
	}
	l.pid = int(cred.Pid)
	return nil
}

// cpuTime returns the CPU time that a process has used so far; that of process
// 0 is 0.
func cpuTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time: %w", err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) <= lastTime {
		return 0, fmt.Errorf("reading the CPU time of process %d: %q", pid, data)
	}
	var ticks int64
	for _, field := range fields[firstTime : lastTime+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
