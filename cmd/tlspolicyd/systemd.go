package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tlspolicyd/internal/config"
	"tlspolicyd/socketmap"
)

// errSocket says that what systemd hands over is of no use here.
var errSocket = errors.New("not a listening stream socket")

// socketsOfSystemd returns the sockets that systemd hands over to this process
// (sd_listen_fds(3)), none if it hands over none. Every one must be of use: one
// that cannot be served is an error, or questions to it would wait for ever.
func socketsOfSystemd(log *zap.Logger) ([]net.Listener, error) {
	const unsetEnvironment = true // they are not for a child
	return listenersOf(activation.Files(unsetEnvironment), log)
}

// listenersOf makes a listener of every file, and closes the files.
func listenersOf(files []*os.File, log *zap.Logger) ([]net.Listener, error) {
	var listeners []net.Listener
	var faults []error
	for _, f := range files {
		l, err := listenerOf(f)
		if err != nil {
			faults = append(faults, fmt.Errorf("socket %q from systemd: %w", f.Name(), err))
			continue
		}
		warnExposed(l, log)
		log.Info("using a socket from systemd", zap.String("name", f.Name()), zap.Stringer("address", l.Addr()))
		listeners = append(listeners, l)
	}
	if len(faults) > 0 {
		return nil, errors.Join(append(faults, closeAll(listeners))...)
	}
	return listeners, nil
}

// listenerOf makes a listener of f, and closes f.
func listenerOf(f *os.File) (net.Listener, error) {
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var listening, kind int
	ask := func(fd uintptr) {
		if listening, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err == nil {
			kind, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE)
		}
	}
	if e := rc.Control(ask); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSocket, err)
	}
	// A connection, which Accept=yes hands over, would pass for a listener.
	if listening == 0 || kind != syscall.SOCK_STREAM {
		return nil, errSocket
	}
	return net.FileListener(f)
}

// closeAll closes listeners that are not served yet.
func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// warnUnused says which addresses of the configuration nobody listens on, since
// systemd has handed over other sockets. The default says nothing of what the
// administrator wants.
func warnUnused(configured []config.Address, listeners []net.Listener, log *zap.Logger) {
	if slices.Equal(configured, config.Default().Listen) {
		return
	}
	var unused []string
	for _, a := range configured {
		among := func(l net.Listener) bool { return serves(l.Addr(), a) }
		if !slices.ContainsFunc(listeners, among) {
			unused = append(unused, a.String())
		}
	}
	if len(unused) > 0 {
		log.Warn("these addresses of the configuration are not used, since systemd hands over other sockets", zap.Strings("listen", unused))
	}
}

// serves reports whether a listener at have answers who asks at want. What a name
// stands for is not looked up: with its port it is taken to be the same.
func serves(have net.Addr, want config.Address) bool {
	switch have := have.(type) {
	case *net.UnixAddr:
		return want.Network == "unix" && have.Name == want.Path
	case *net.TCPAddr:
		return want.Network == "tcp" && have.Port == int(want.Port) && servesHost(have.IP, want.Host)
	default:
		return false
	}
}

func servesHost(have net.IP, want string) bool {
	if have.IsUnspecified() || want == "" {
		return have.IsUnspecified()
	}
	ip, err := netip.ParseAddr(want)
	return err != nil || have.Equal(ip.AsSlice())
}

func warnExposed(l net.Listener, log *zap.Logger) {
	if socketmap.Exposed(l) {
		log.Warn("other machines can ask this daemon: socketmap has no authentication", zap.Stringer("address", l.Addr()))
	}
}

// manager is the service manager, which is told what the daemon does
// (sd_notify(3)). Where there is none, nothing happens.
type manager struct {
	log *zap.Logger
}

// ready says that questions are answered: after the start, or after a reload.
func (m manager) ready(status string) { m.tell(sd.SdNotifyReady, "STATUS="+status) }

// reloading says that the configuration is being read again.
func (m manager) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		m.log.Warn("the clock cannot be read", zap.Error(err))
	}
	// Type=notify-reload wants to know since when.
	m.tell(sd.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// stopping says that the daemon is about to end.
func (m manager) stopping() { m.tell(sd.SdNotifyStopping, "STATUS=Answering the last questions") }

func (m manager) tell(lines ...string) {
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		m.log.Warn("the service manager cannot be told of a change of state", zap.Error(err))
	}
}

// watchdog tells the service manager at every half of its interval that the
// daemon is alive, until ctx ends. alive returns if it is.
func (m manager) watchdog(ctx context.Context, alive func()) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("the watchdog is not served", zap.Error(err))
		return
	}
	if interval == 0 {
		return
	}
	ticker := time.NewTicker(interval / 2)
	defer ticker.Stop()
	for {
		alive()
		m.tell(sd.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
