package mtasts

import (
	"fmt"
	"net/netip"
)

// special is a block of addresses that no policy host on the public Internet
// can have, with its name in the registry and the RFC that the name is from.
type special struct {
	prefix netip.Prefix
	name   string
}

// special4 are the blocks of the IANA IPv4 Special-Purpose Address Registry
// (RFC 6890) that are not globally reachable, the relays of 6to4, and
// multicast (RFC 5771), to which no TCP connection can be made.
var special4 = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link local (RFC 3927)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "IETF protocol assignments (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay anycast (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use (RFC 1918)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},
}

// special6 are the blocks of the IANA IPv6 Special-Purpose Address Registry
// (RFC 6890) inside of globalUnicast that are not globally reachable, and
// those that lead to an IPv4 address in another place.
var special6 = []special{
	{netip.MustParsePrefix("2001::/32"), "Teredo (RFC 4380)"},
	{netip.MustParsePrefix("2001::/23"), "IETF protocol assignments (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation (RFC 3849)"},
	{netip.MustParsePrefix("2002::/16"), "6to4 (RFC 3056)"},
	{netip.MustParsePrefix("3fff::/20"), "documentation (RFC 9637)"},
}

var (
	// globalUnicast is all of IPv6 that is given out (RFC 4291, section 2.4,
	// and the IANA registry of IPv6 global unicast addresses).
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// nat64 is how IPv4 is reached from a network without (RFC 6052,
	// section 2.1); the IPv4 address is in the last four bytes.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// addressFilter says which addresses a policy host may have. Anybody can give
// his policy host any address; the filter keeps requests out of networks that
// only this machine reaches.
type addressFilter struct {
	// allow are networks that are allowed though they are special.
	allow []netip.Prefix
}

// refuse returns why addr is not to be connected to, or an empty string if it
// may be. An IPv4-mapped IPv6 address counts as the IPv4 address.
func (f addressFilter) refuse(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	for _, p := range f.allow {
		if p.Contains(addr) {
			return ""
		}
	}
	return refuseSpecial(addr)
}

// allows reports whether addr may be connected to.
func (f addressFilter) allows(addr netip.Addr) bool { return f.refuse(addr) == "" }

func refuseSpecial(addr netip.Addr) string {
	switch {
	case !addr.IsValid():
		return "no address"
	case addr.Is4():
		return specialName(special4, addr)
	case nat64.Contains(addr):
		// RFC 6052, section 3.1: the prefix is for global addresses only.
		b := addr.As16()
		if name := refuseSpecial(netip.AddrFrom4([4]byte(b[12:]))); name != "" {
			return fmt.Sprintf("NAT64 (RFC 6052) of %s", name)
		}
		return ""
	case !globalUnicast.Contains(addr):
		return "not global unicast (RFC 4291)"
	default:
		return specialName(special6, addr)
	}
}

func specialName(blocks []special, addr netip.Addr) string {
	for _, b := range blocks {
		if b.prefix.Contains(addr) {
			return b.name
		}
	}
	return ""
}
