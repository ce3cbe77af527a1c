package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Address is where a service listens.
type Address struct {
	// Network is tcp or unix; empty in the zero value only.
	Network string
	// Host and Port are for tcp. The host is a name or an address, or empty
	// for all addresses of the machine.
	Host string
	Port uint16
	// Path is for unix.
	Path string
	// Written is the address as it was written: host:port or unix:/path.
	Written string
}

// String returns the address as it was written.
func (a Address) String() string { return a.Written }

// MaxUnixPath is the most bytes of the path of a Unix socket (unix(7): 108 with
// the final zero).
const MaxUnixPath = 107

// unixPrefix tells a path from host:port.
const unixPrefix = "unix:"

// defaultPort is suggested where one is missing.
const defaultPort = "8461"

// listenAddress reads host:port or unix:/path.
func listenAddress(w word) (Address, error) {
	if rest, ok := strings.CutPrefix(w.text, unixPrefix); ok && w.kind == kindText {
		p, err := socketPath(word{text: rest})
		if err != nil {
			if b, ok := errors.AsType[*badWord](err); ok && b.suggestion != "" {
				return Address{}, instead(unixPrefix+b.suggestion, "%s", b.reason)
			}
			return Address{}, err
		}
		return Address{Network: "unix", Path: p, Written: w.text}, nil
	}
	if strings.HasPrefix(w.text, "/") {
		return Address{}, instead(unixPrefix+w.text, "the path of a Unix socket has unix: before it")
	}
	return tcpAddress(w)
}

// tcpAddress reads host:port.
func tcpAddress(w word) (Address, error) {
	if isDigits(w.text) {
		return Address{}, instead("127.0.0.1:"+w.text, "an address is host:port or unix:/path")
	}
	s, err := w.asText()
	if err != nil {
		return Address{}, err
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, instead(nearAddress(s), "an address is host:port or unix:/path, an IPv6 address in brackets")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || !isDigits(port) {
		return Address{}, bad("the port is a number from 1 to 65535")
	}
	if host != "" && !isHost(host) {
		return Address{}, bad("%q is neither an address nor the name of a host; :%d stands for all addresses of this machine", shorten(host), n)
	}
	return Address{Network: "tcp", Host: host, Port: uint16(n), Written: s}, nil
}

// optionalTCP is an address, or nothing.
func optionalTCP(w word) (Address, error) {
	if w.text == "" && w.kind == kindText {
		return Address{}, nil
	}
	return tcpAddress(w)
}

// nearAddress guesses what a malformed address was to be.
func nearAddress(s string) string {
	if rest, ok := strings.CutPrefix(s, "inet:"); ok {
		return rest
	}
	if i := strings.LastIndexByte(s, ':'); i > 0 {
		if addr, err := netip.ParseAddr(s[:i]); err == nil {
			return net.JoinHostPort(addr.String(), s[i+1:])
		}
	}
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return net.JoinHostPort(addr.String(), defaultPort)
	}
	return ""
}

// isHost reports whether s is an address, or has the form of the name of a
// host.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, hostLetters) != "" {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(s, "0123456789.") != ""
}

const hostLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// dnsPort is where name servers listen.
const dnsPort = 53

// nameServer reads an IP address with or without a port.
func nameServer(w word) (netip.AddrPort, error) {
	s, err := w.asText()
	if err != nil {
		return netip.AddrPort{}, err
	}
	server, ok := parseServer(s)
	if !ok {
		// Unbound and dnsmasq write the port after @ or #.
		near := strings.NewReplacer("#", ":", "@", ":").Replace(s)
		if _, ok := parseServer(near); !ok {
			near = ""
		}
		return netip.AddrPort{}, instead(near, "a name server is an IP address with or without :port, an IPv6 address with port in brackets; a name could not be looked up")
	}
	addr := server.Addr()
	if server.Port() == 0 {
		return netip.AddrPort{}, bad("the port is a number from 1 to 65535")
	}
	if addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}, bad("no server has this address")
	}
	return server, nil
}

func parseServer(s string) (netip.AddrPort, bool) {
	if server, err := netip.ParseAddrPort(s); err == nil {
		return netip.AddrPortFrom(server.Addr().Unmap(), server.Port()), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return netip.AddrPort{}, false
		}
	}
	addr, err := netip.ParseAddr(s)
	return netip.AddrPortFrom(addr.Unmap(), dnsPort), err == nil
}

// network reads an address block.
func network(w word) (netip.Prefix, error) {
	s, err := w.asText()
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.Prefix{}, instead(s+"/"+strconv.Itoa(addr.BitLen()), "a network is an address, a slash and a number of bits")
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, bad("this is no network, such as 10.0.0.0/8 or fd00::/8")
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, bad("IPv4 addresses are compared as such: write the IPv4 network")
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, instead(m.String(), "there are bits set to the right of the network")
	}
	return p, nil
}

// absolutePath reads the path of a file.
func absolutePath(w word) (string, error) {
	s, err := w.asText()
	if err != nil {
		return "", err
	}
	if !path.IsAbs(s) {
		return "", bad("a path begins with a slash")
	}
	if clean := path.Clean(s); clean != s || clean == "/" {
		return "", instead(clean, "this is no plain path of a file")
	}
	return s, nil
}

// optionalPath is the path of a file, or nothing.
func optionalPath(w word) (string, error) {
	if w.text == "" && w.kind == kindText {
		return "", nil
	}
	return absolutePath(w)
}

// secretPath is the path of a file that holds a secret. An error does not quote
// what is written, since it may be the secret itself.
func secretPath(w word) (string, error) {
	s, err := optionalPath(w)
	if err != nil {
		return "", &badWord{reason: "the absolute path of a file is expected here, not the password itself", secret: true}
	}
	return s, nil
}

// storePath is the path of a file, "none", or nothing.
func storePath(w word) (string, error) {
	if w.text == noStore && w.kind == kindText {
		return noStore, nil
	}
	return optionalPath(w)
}

// socketPath is the path of a Unix socket.
func socketPath(w word) (string, error) {
	s, err := absolutePath(w)
	if err != nil {
		return "", err
	}
	if len(s) > MaxUnixPath {
		return "", bad("the path of a Unix socket has at most %d bytes; this one has %d", MaxUnixPath, len(s))
	}
	return s, nil
}

// optionalSocket is the path of a Unix socket, or nothing.
func optionalSocket(w word) (string, error) {
	if w.text == "" && w.kind == kindText {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(w.text, unixPrefix); ok {
		return "", instead(rest, "a path is expected here, without unix: before it")
	}
	return socketPath(w)
}

// formatURL writes a URL, nil as nothing.
func formatURL(u *url.URL) string {
	if u == nil {
		return quote("")
	}
	return quote(u.String())
}
