package check

import (
	"net"
	"net/netip"
	"strings"
)

// socketmapRef is a socketmap in main.cf. Its address is host:port or unix:path.
type socketmapRef struct{ address, name string }

// socketmaps returns the socketmaps in a list of maps, in their order
// (socketmap_table(5)).
func socketmaps(list string) []socketmapRef {
	var found []socketmapRef
	for _, word := range strings.FieldsFunc(list, func(c rune) bool { return strings.ContainsRune(", \t\r\n{}", c) }) {
		word = strings.TrimPrefix(word, "proxy:")
		rest, ok := strings.CutPrefix(word, "socketmap:")
		colon := strings.LastIndexByte(rest, ':')
		if !ok || colon < 0 {
			continue
		}
		found = append(found, socketmapRef{strings.TrimPrefix(rest[:colon], "inet:"), rest[colon+1:]})
	}
	return found
}

// at reports whether the map is asked at one of the addresses.
func (m socketmapRef) at(listen []string) bool {
	for _, l := range listen {
		if sameSocket(m.address, l) || sameAddress(m.address, l) {
			return true
		}
	}
	return false
}

// unixPrefix is before the path of a Unix socket, in main.cf as in listen.
const unixPrefix = "unix:"

// sameSocket reports whether a Unix socket is asked where one is. Postfix names
// them from within its queue directory.
func sameSocket(asked, listen string) bool {
	path, ok := strings.CutPrefix(listen, unixPrefix)
	name, isSocket := strings.CutPrefix(asked, unixPrefix)
	return ok && isSocket && (name == path || strings.HasSuffix(path, "/"+strings.TrimPrefix(name, "/")))
}

// sameAddress reports whether who listens at one address is found at another.
func sameAddress(asked, listen string) bool {
	askedHost, askedPort, err := net.SplitHostPort(asked)
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port != askedPort {
		return false
	}
	host, askedHost = strings.ToLower(host), strings.ToLower(askedHost)
	here := addressesOf(askedHost)
	if len(here) == 0 {
		// A name: it may be that of this machine.
		return host == askedHost || host == "" || isWildcard(host)
	}
	for _, addr := range here {
		if listens(host, addr) {
			return true
		}
	}
	return false
}

// The addresses of a machine for itself.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// addressesOf returns the addresses that a host stands for; none for a name that
// is not one of the machine's names for itself. To connect to no address at all
// is to connect to oneself.
func addressesOf(host string) []netip.Addr {
	switch host {
	case "localhost":
		return []netip.Addr{loopback4, loopback6}
	case "ip6-localhost", "ip6-loopback":
		return []netip.Addr{loopback6}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	switch addr = addr.Unmap(); {
	case !addr.IsUnspecified():
	case addr.Is4():
		addr = loopback4
	default:
		addr = loopback6
	}
	return []netip.Addr{addr}
}

func isWildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsUnspecified()
}

// listens reports whether who listens at host is found at addr.
func listens(host string, addr netip.Addr) bool {
	switch {
	case host == "", isWildcard(host):
		// At "::" IPv4 is listened to as well, at "0.0.0.0" nothing else.
		return host != "0.0.0.0" || addr.Is4()
	case host == "localhost":
		return addr == loopback4 // the first one, and IPv4 comes first
	}
	for _, a := range addressesOf(host) {
		if a == addr {
			return true
		}
	}
	return false
}

// queue is where Postfix's programs in a chroot are.
const queue = "/var/spool/postfix/"

// mapAt returns the socketmap that asks a daemon at listen, as in main.cf.
func mapAt(listen []string) string {
	address := "inet:127.0.0.1:8461"
	if len(listen) > 0 {
		address = reachable(listen[0])
	}
	for _, l := range listen {
		if !strings.HasPrefix(l, unixPrefix) {
			address = reachable(l)
			break
		}
	}
	return "socketmap:" + address + ":policy"
}

// reachable returns how Postfix connects to who listens at an address.
func reachable(listen string) string {
	if path, ok := strings.CutPrefix(listen, unixPrefix); ok {
		return unixPrefix + strings.TrimPrefix(path, queue)
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "inet:" + listen
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if addrs := addressesOf(strings.ToLower(host)); len(addrs) > 0 {
		host = addrs[0].String()
	}
	return "inet:" + net.JoinHostPort(host, port)
}
