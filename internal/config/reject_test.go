package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/internal/config"
)

// Each file has one fault; want is the whole of it.
func TestFaults(t *testing.T) {
	long := strings.Repeat("x", 120)
	tests := []struct{ name, text, want string }{
		// Keys.
		{"misspelt key", "lisen: []\n", `1:1: "lisen": there is no such key; did you mean listen?`},
		{"swapped letters", "cache:\n  meomry: 5\n", `2:3: "meomry": there is no such key in the section cache; did you mean memory?`},
		{"hyphen for underscore", "socket-mode: \"0660\"\n", `1:1: "socket-mode": there is no such key; did you mean socket_mode?`},
		{"misspelt section", "chache:\n  memory: 5\n", `1:1: "chache": there is no such key; did you mean cache?`},
		{"key outside of its section", "memory: 5\n", `1:1: "memory": there is no such key; did you mean memory in the section cache?`},
		{"key in the wrong section", "dns:\n  smart_hosts: true\n", `2:3: "smart_hosts": there is no such key in the section dns; did you mean smart_hosts, which is in no section?`},
		{"key with dots", "dns.timeout: 2s\n", `1:1: "dns.timeout": there is no such key; did you mean timeout in the section dns?`},
		{"key unlike any", "frobnicate: 1\n", `1:1: "frobnicate": there is no such key`},
		{"long key", long + ": 1\n", `1:1: "` + long[:79] + `…": there is no such key`},
		{"key that is a number", "1: 2\n", `1:1: "1": there is no such key`},
		{"repeated key", "smart_hosts: true\nsmart_hosts: true\n", `2:1: "smart_hosts": this key stands on line 1 already`},
		{"repeated section", "dns:\n  attempts: 1\ndns:\n  attempts: 2\n", `3:1: "dns": this key stands on line 1 already`},
		{"repeated in a section", "dns: {attempts: 1, attempts: 2}\n", `1:20: "attempts": this key stands on line 1 already`},
		{"section with a value", "dns: 5\n", `1:6: "5": dns is a section: its keys stand below it, indented`},
		{"section with a list", "dns: [timeout]\n", `1:6: "[": dns is a section: its keys stand below it, indented`},
		{"no value", "dns:\n  timeout:\n", `2:12: there is no value; leave the key out to have the default`},
		{"no list", "listen:\n", `1:9: there is no value; leave the key out to have the default`},
		{"null", "dns: {timeout: ~}\n", `1:16: there is no value; leave the key out to have the default`},
		{"section for a value", "smart_hosts:\n  yes: no\n", `2:6: ":": one value is expected here, not a list or a section`},
		{"list for a value", "cache: {memory: [1]}\n", `1:17: "[": one value is expected here, not a list or a section`},
		{"value for a list", "listen: 127.0.0.1:25\n", `1:9: "127.0.0.1:25": a list is expected here, in brackets or with a dash before each value; [] is the empty list; did you mean [127.0.0.1:25]?`},
		{"section in a list", "listen: [{a: b}]\n", `1:10: "{": one value is expected here; text that holds a colon, or begins with [ or {, needs quotes`},
		{"port in a list in braces", "dns: {servers: [192.0.2.53:5353]}\n", `1:27: ":": one value is expected here; text that holds a colon, or begins with [ or {, needs quotes`},
		{"IPv6 in a list in braces", "dns: {servers: [::1]}\n", `1:17: "dns: {servers: [::1]}": this is no valid YAML (found an invalid key for this map): an IPv6 address needs quotes`},

		// Truth and numbers.
		{"yes", "smart_hosts: yes\n", `1:14: "yes": true or false is expected here; did you mean true?`},
		{"off", "smart_hosts: off\n", `1:14: "off": true or false is expected here; did you mean false?`},
		{"quoted true", "smart_hosts: \"true\"\n", `1:14: "true": true or false is expected here; did you mean true?`},
		{"neither", "smart_hosts: maybe\n", `1:14: "maybe": true or false is expected here`},
		{"quoted number", "cache: {memory: \"5\"}\n", `1:17: "5": a number is expected here, without quotes; did you mean 5?`},
		{"no entries", "cache: {memory: 0}\n", `1:17: "0": a number from 1 to 2147483647 is expected here`},
		{"negative", "cache: {memory: -1}\n", `1:17: "-1": a number from 1 to 2147483647 is expected here`},
		{"too many entries", "cache: {memory: 99999999999999999999}\n", `1:17: "99999999999999999999": a number from 1 to 2147483647 is expected here`},
		{"hexadecimal", "cache: {memory: 0x10}\n", `1:17: "0x10": a whole number is expected here, in decimal digits`},
		{"fraction", "cache: {memory: 1.5}\n", `1:17: "1.5": a whole number is expected here, in decimal digits`},
		{"leading zero", "cache: {memory: 010}\n", `1:17: "010": a number is written without leading zeros; did you mean 10?`},
		{"no attempts", "dns: {attempts: 0}\n", `1:17: "0": a number from 1 to 20 is expected here`},

		// Durations.
		{"no unit", "dns: {timeout: 2}\n", `1:16: "2": a duration needs a unit: ms, s, m, h or d; did you mean 2s?`},
		{"no unit, quoted zero", "dns: {timeout: \"0\"}\n", `1:16: "0": a duration needs a unit: ms, s, m, h or d; did you mean 0s?`},
		{"unit in words", "cache: {refresh: 5 hours}\n", `1:18: "5 hours": this is no duration, such as 500ms, 10s, 1h30m or 30d; did you mean 5h?`},
		{"unknown unit", "cache: {refresh: 1w}\n", `1:18: "1w": this is no duration, such as 500ms, 10s, 1h30m or 30d`},
		{"days after hours", "cache: {refresh: 1h1d}\n", `1:18: "1h1d": this is no duration, such as 500ms, 10s, 1h30m or 30d`},
		{"too many days", "cache: {idle: 99999999999d}\n", `1:15: "99999999999d": this is no duration, such as 500ms, 10s, 1h30m or 30d`},
		{"negative duration", "cache: {recheck: -1s}\n", `1:18: "-1s": this must be at least 100ms`},
		{"minutes without the rest", "dns: {timeout: 2ms}\n", `1:16: "2ms": this must be at least 100ms`},
		{"zero duration", "cache: {recheck: 0s}\n", `1:18: "0s": this must be at least 100ms`},
		{"longer than Postfix waits", "sts: {answer_within: 91s}\n", `1:22: "91s": this must be at most 90s: Postfix gives up after 100 s`},
		{"longer than any policy lives", "cache: {idle: 400d}\n", `1:15: "400d": this must be at most 8766h: no policy lives longer`},
		{"endless fetch", "sts: {fetch_timeout: 1h}\n", `1:22: "1h": this must be at most 10m: a host that is slower than this would only hold connections`},
		{"refresh before recheck", "cache:\n  recheck: 2h\n  refresh: 1h\n", `3:3: refresh (1h) is less than recheck (2h): a policy would be fetched more often than its id is looked at`},
		{"recheck alone too long", "cache:\n  recheck: 2d\n", `2:3: refresh (24h) is less than recheck (48h): a policy would be fetched more often than its id is looked at`},
		{"idle before refresh", "cache:\n  idle: 1h\n", `2:3: idle (1h) is less than refresh (24h): a domain would count as unused before its first refresh`},

		// Sizes and modes.
		{"size without unit", "cache: {disk: 5000000}\n", `1:15: "5000000": a size is a whole number and a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB; did you mean 5000000B?`},
		{"size with a blank", "cache: {disk: 2 GiB}\n", `1:15: "2 GiB": a size is a whole number and a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB; did you mean 2GiB?`},
		{"size with a letter", "cache: {disk: 2G}\n", `1:15: "2G": a size is a whole number and a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB; did you mean 2GiB?`},
		{"no size", "cache: {disk: lots}\n", `1:15: "lots": this is no size, such as 512MiB or 2GiB`},
		{"size too small", "cache: {disk: 1kB}\n", `1:15: "1kB": this must be at least 1MiB`},
		{"size beyond counting", "cache: {disk: 9000000000GiB}\n", `1:15: "9000000000GiB": this is more than can be counted`},
		{"mode as a number", "socket_mode: 0660\n", `1:14: "0660": a file mode is written in quotes, since YAML would take it for a number; did you mean "0660"?`},
		{"mode in letters", "socket_mode: rw-rw-rw-\n", `1:14: "rw-rw-rw-": this is no file mode, such as "0666" or "0660"`},
		{"mode with special bits", "socket_mode: \"4755\"\n", `1:14: "4755": this is no file mode, such as "0666" or "0660"`},
		{"mode not octal", "socket_mode: \"0888\"\n", `1:14: "0888": this is no file mode, such as "0666" or "0660"`},
		{"mode for nobody", "socket_mode: \"0444\"\n", `1:14: "0444": with this mode nobody could connect: it takes the permission to write`},

		// Addresses.
		{"no port", "listen: [127.0.0.1]\n", `1:10: "127.0.0.1": an address is host:port or unix:/path, an IPv6 address in brackets; did you mean 127.0.0.1:8461?`},
		{"port only", "listen: [8461]\n", `1:10: "8461": an address is host:port or unix:/path; did you mean 127.0.0.1:8461?`},
		{"port 0", "listen: [\"127.0.0.1:0\"]\n", `1:10: "127.0.0.1:0": the port is a number from 1 to 65535`},
		{"port 65536", "listen: [127.0.0.1:65536]\n", `1:10: "127.0.0.1:65536": the port is a number from 1 to 65535`},
		{"port by name", "listen: [127.0.0.1:smtp]\n", `1:10: "127.0.0.1:smtp": the port is a number from 1 to 65535`},
		{"star", "listen: [\"*:8461\"]\n", `1:10: "*:8461": "*" is neither an address nor the name of a host; :8461 stands for all addresses of this machine`},
		{"four numbers that are no address", "listen: [127.0.0.256:25]\n", `1:10: "127.0.0.256:25": "127.0.0.256" is neither an address nor the name of a host; :25 stands for all addresses of this machine`},
		{"IPv6 without brackets", "listen: [\"::1:8461\"]\n", `1:10: "::1:8461": an address is host:port or unix:/path, an IPv6 address in brackets; did you mean [::1]:8461?`},
		{"IPv6 without port", "listen: [\"::1\"]\n", `1:10: "::1": an address is host:port or unix:/path, an IPv6 address in brackets; did you mean [::1]:8461?`},
		{"as main.cf has it", "listen: [inet:127.0.0.1:8461]\n", `1:10: "inet:127.0.0.1:8461": an address is host:port or unix:/path, an IPv6 address in brackets; did you mean 127.0.0.1:8461?`},
		{"path without unix", "listen: [/run/x]\n", `1:10: "/run/x": the path of a Unix socket has unix: before it; did you mean unix:/run/x?`},
		{"relative path", "listen: [unix:run/x]\n", `1:10: "unix:run/x": a path begins with a slash`},
		{"path like a URL", "listen: [unix:///run/x]\n", `1:10: "unix:///run/x": this is no plain path of a file; did you mean unix:/run/x?`},
		{"path of 108 bytes", "listen: [unix:/" + strings.Repeat("a", 107) + "]\n", `1:10: "unix:/` + strings.Repeat("a", 73) + `…": the path of a Unix socket has at most 107 bytes; this one has 108`},
		{"address twice", "listen: [127.0.0.1:1, 127.0.0.1:1]\n", `1:23: "127.0.0.1:1": this stands in the list twice`},
		{"name server by name", "dns: {servers: [ns.example]}\n", `1:17: "ns.example": a name server is an IP address with or without :port, an IPv6 address with port in brackets; a name could not be looked up`},
		{"name server as Unbound has it", "dns: {servers: [192.0.2.1@53]}\n", `1:17: "192.0.2.1@53": a name server is an IP address with or without :port, an IPv6 address with port in brackets; a name could not be looked up; did you mean 192.0.2.1:53?`},
		{"name server nowhere", "dns: {servers: [0.0.0.0]}\n", `1:17: "0.0.0.0": no server has this address`},
		{"name server with port 0", "dns: {servers: [\"127.0.0.1:0\"]}\n", `1:17: "127.0.0.1:0": the port is a number from 1 to 65535`},
		{"name server with half a bracket", "dns: {servers: [\"[::1\"]}\n", `1:17: "[::1": a name server is an IP address with or without :port, an IPv6 address with port in brackets; a name could not be looked up`},
		{"name server twice", "dns: {servers: [192.0.2.1, \"192.0.2.1:53\"]}\n", `1:28: "192.0.2.1:53": this stands in the list twice`},
		{"address for a network", "sts: {allow_networks: [192.0.2.1]}\n", `1:24: "192.0.2.1": a network is an address, a slash and a number of bits; did you mean 192.0.2.1/32?`},
		{"host bits", "sts: {allow_networks: [10.1.2.3/8]}\n", `1:24: "10.1.2.3/8": there are bits set to the right of the network; did you mean 10.0.0.0/8?`},
		{"too many bits", "sts: {allow_networks: [10.0.0.0/33]}\n", `1:24: "10.0.0.0/33": this is no network, such as 10.0.0.0/8 or fd00::/8`},
		{"mapped network", "sts: {allow_networks: [\"::ffff:10.0.0.0/104\"]}\n", `1:24: "::ffff:10.0.0.0/104": IPv4 addresses are compared as such: write the IPv4 network`},
		{"relative file", "sts: {ca_file: ca.pem}\n", `1:16: "ca.pem": a path begins with a slash`},
		{"number for a file", "sts: {ca_file: 5}\n", `1:16: "5": text is expected here; did you mean "5"?`},
		{"directory", "cache: {file: /var/lib/x/}\n", `1:15: "/var/lib/x/": this is no plain path of a file; did you mean /var/lib/x?`},
		{"admin socket as in listen", "admin: {socket: unix:/run/x}\n", `1:17: "unix:/run/x": a path is expected here, without unix: before it; did you mean /run/x?`},
		{"metrics where Postfix asks", "admin: {http: 127.0.0.1:8461}\n", `1:9: "127.0.0.1:8461": this address is in listen too`},
		{"admin socket where Postfix asks", "listen: [unix:/run/x]\nadmin: {socket: /run/x}\n", `2:9: "/run/x": this path is in listen too`},

		// URLs.
		{"proxy over TLS", "sts: {proxy: https://proxy:1}\n", `1:14: "https://proxy:1": this must begin with http://`},
		{"proxy without scheme", "sts: {proxy: proxy}\n", `1:14: "proxy": this must begin with http://`},
		{"proxy without port", "sts: {proxy: http://proxy}\n", `1:14: "http://proxy": the port of the proxy is missing: http://host:port`},
		{"proxy with a slash", "sts: {proxy: http://proxy:1/}\n", `1:14: "http://proxy:1/": a proxy is http://host:port, with nothing after it; did you mean http://proxy:1?`},
		{"proxy with a user", "sts: {proxy: \"http://u:p@proxy:1\"}\n", `1:14: "http://***@proxy:1": a proxy that wants a user or a password is not supported`},
		{"proxy without host", "sts: {proxy: \"http://:80\"}\n", `1:14: "http://***": this names no host`},
		{"store with another scheme", "cache: {shared: {url: valkey://a}}\n", `1:23: "valkey://a": this must begin with redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://`},
		{"store with options", "cache: {shared: {url: redis://a?db=1}}\n", `1:23: "redis://a?db=1": nothing is understood after ? or #`},
		{"store without host", "cache: {shared: {url: redis:///0}}\n", `1:23: "redis:///0": the host is missing: redis://host:port`},
		{"store with a path", "cache: {shared: {url: redis://a/x}}\n", `1:23: "redis://a/x": what follows the last slash is the number of a database, such as 0`},
		{"store with several hosts", "cache: {shared: {url: \"redis://a,b\"}}\n", `1:23: "redis://a,b": several hosts go with redis+sentinel:// and redis+cluster:// only`},
		{"store with a slash too many", "cache: {shared: {url: redis://a/}}\n", `1:23: "redis://a/": there is a slash too many at the end`},
		{"sentinel with a slash too many", "cache: {shared: {url: redis+sentinel://a/m/}}\n", `1:23: "redis+sentinel://a/m/": there is a slash too many at the end`},
		{"store with port 0", "cache: {shared: {url: redis://a:0}}\n", `1:23: "redis://a:0": the port is a number from 1 to 65535`},
		{"store with a bare name", "cache: {shared: {url: redis:a}}\n", `1:23: "redis:a": this is no URL of the form redis://host:port`},
		{"sentinel without service", "cache: {shared: {url: redis+sentinel://a:1}}\n", `1:23: "redis+sentinel://a:1": the name of the service is missing: redis+sentinel://host:port,host:port/service`},
		{"cluster with a database", "cache: {shared: {url: redis+cluster://a:1/0}}\n", `1:23: "redis+cluster://a:1/0": a cluster has no numbered databases: nothing follows the hosts`},
		{"cluster with a slash too many", "cache: {shared: {url: redis+cluster://a/}}\n", `1:23: "redis+cluster://a/": there is a slash too many at the end`},
		{"user without password", "cache: {shared: {url: redis://relay@a}}\n", `1:18: "redis://***@a": a user is of no use without password_file`},
		{"certificates in clear with sentinels", "cache:\n  shared:\n    ca_file: /c\n    url: redis+sentinel://a/m\n", `4:5: "redis+sentinel://a/m": redis+sentinel:// does not encrypt, so certificates are of no use; did you mean rediss+sentinel://a/m?`},
		{"certificate without key", "cache: {shared: {cert_file: /c}}\n", `1:18: cert_file is of no use without key_file`},
		{"key without certificate", "cache: {shared: {key_file: /c}}\n", `1:18: key_file is of no use without cert_file`},
		{"certificates in clear", "cache:\n  shared:\n    ca_file: /c\n    url: redis://a\n", `4:5: "redis://a": redis:// does not encrypt, so certificates are of no use; did you mean rediss://a?`},
		{"empty prefix", "cache: {shared: {prefix: \"\"}}\n", `1:26: a prefix has 1 to 64 bytes, without blanks, braces and the signs of patterns`},

		// Log.
		{"level of another program", "log: {level: warning}\n", `1:14: "warning": one of debug, info, warn, error is expected here; did you mean warn?`},
		{"unknown format", "log: {format: xml}\n", `1:15: "xml": one of auto, journal, console, json is expected here`},

		// YAML.
		{"tab", "dns:\n\ttimeout: 2s\n", `2:1: "\ttimeout: 2s": there is a tab in the indentation; YAML indents with blanks only`},
		{"tab after blanks", "dns:\n  \ttimeout: 2s\n", `2:3: "  \ttimeout: 2s": there is a tab in the indentation; YAML indents with blanks only`},
		{"control character", "dns: {timeout: \x1b[1m}\n", `1:16: "dns: {timeout: \x1b[1m}": control character '\x1b'`},
		{"NUL", "dns:\x00\n", `1:5: "dns:\x00": control character '\x00'`},
		{"escaped control character", "sts: {ca_file: \"/a\\nb\"}\n", `1:16: "/a\nb": there is a control character in this text`},
		{"Latin-1", "# M\xfcnchen\n", `1:4: the file is not in UTF-8`},
		{"anchor", "dns: &a {}\n", `1:6: "&": anchors are not understood here`},
		{"alias", "dns: *a\n", `1:6: "*": aliases are not understood here; text that begins with * needs quotes`},
		{"merge key", "dns:\n  <<: {}\n", `2:3: "<<": merge keys are not understood here`},
		{"tag", "dns: !!map {}\n", `1:6: "!!map": tags are not understood here; text that begins with ! needs quotes`},
		{"block scalar", "sts:\n  ca_file: |\n    /x\n", `2:12: "|": text of several lines is not understood here`},
		{"two documents", "dns:\n---\nsts:\n", `2:1: "---": a second document begins here; there can be only one`},
		{"after the end", "dns:\n...\nsts:\n", `3:1: "sts": the document has ended before`},
		{"list", "- listen\n", `1:1: "-": a configuration consists of lines with a key, a colon, a blank and a value`},
		{"word", "hello\n", `1:1: "hello": a configuration consists of lines with a key, a colon, a blank and a value`},
		{"no blank after the colon", "smart_hosts:true\n", `1:1: "smart_hosts:true": a configuration consists of lines with a key, a colon, a blank and a value`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("f", []byte(tt.text))
			if err == nil {
				t.Fatalf("accepted, want %s", tt.want)
			}
			if got := err.Error(); got != "f:"+tt.want {
				t.Errorf("got\n\t%s\nwant\n\tf:%s", got, tt.want)
			}
		})
	}
}

// What is no YAML at all is said in the words of the library, and with a guess.
func TestSyntaxFaultsSayWhereAndGuessWhy(t *testing.T) {
	tests := []struct{ name, text, at, hint string }{
		{"brackets without quotes", "listen:\n  - [::1]:8461\n", "f:2:", "an IPv6 address needs quotes"},
		{"no colon", "cache:\n  memory 5\n  disk: 5MiB\n", "f:2:", "is there a colon missing?"},
		{"no blank after the colon", "dns:\n  timeout:2s\n  attempts: 3\n", "f:2:", "there is a blank missing after the colon"},
		{"indented less", "cache:\n  memory: 5\n disk: 5MiB\n", "f:3:", "indented as the others"},
		{"indented more", "dns:\n  timeout: 2s\n   attempts: 3\n", "f:2:", "indented as the others"},
		{"open brace", "log: {level: info\n", "f:1:", "no valid YAML"},
		{"open quote", "sts:\n  ca_file: \"/x\n", "f:2:", "is there a quote missing?"},
		{"comma too many", "listen: [a,,b]\n", "f:1:", "no valid YAML"},
		{"two keys on a line", "cache: memory: 5\n", "f:1:", "no valid YAML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("f", []byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), tt.at) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("got %v, want %s… %s", err, tt.at, tt.hint)
			}
		})
	}
}

func TestAllFaultsAtOnceInOrder(t *testing.T) {
	_, err := config.Parse("f", []byte("log: {level: x}\nlisen: []\ndns:\n  timeout: 2\n  timeout: 3s\ncache: {refresh: 1s}\nadmin: {http: a}\n"))
	faults, ok := errors.AsType[config.Faults](err)
	if !ok {
		t.Fatalf("got %v, want faults", err)
	}
	var got []string
	for _, f := range faults {
		got = append(got, fmt.Sprintf("%d:%d", f.Line, f.Column))
	}
	want := []string{"1:14", "2:1", "4:12", "5:3", "6:9", "7:15"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v\n%v", got, want, err)
	}
	if _, ok := errors.AsType[*config.Fault](err); !ok {
		t.Errorf("a single fault cannot be had from %v", err)
	}
}

func TestTheNumberOfFaultsIsBounded(t *testing.T) {
	_, err := config.Parse("f", []byte(strings.Repeat("nope: 1\n", 150)))
	faults, _ := errors.AsType[config.Faults](err)
	if len(faults) != 100 {
		t.Fatalf("got %d faults, want 100", len(faults))
	}
	if got, want := faults[99].Error(), "f:100:1: 51 more errors from here on"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPasswordsAreNeverShown(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"cache: {shared: {url: \"redis://:hunter2@db\"}}\n",
		"cache: {shared: {url: \"redis://u:hunter2@db:x\"}}\n",
		"cache: {shared: {url: \"redis://u:hunter2\"}}\n",
		"cache: {shared: {url: \"redis://:hunter2\"}}\n",
		"cache: {shared: {url: \"redis://u:hunter2@db?x\"}}\n",
		"cache: {shared: {url: \"redis://u:a/hunter2@db\"}}\n",
		"cache: {shared: {url: \"http://u:hunter2@db\"}}\n",
		"cache:\n  shared:\n    url: redis://:hunter2@db : x\n",
		"cache:\n  shared:\n    url: \"redis://:hunter2\n",
		"cache: {shared: {password: hunter2}}\n",
		"cache: {shared: {password_file: hunter2}}\n",
		"cache: {shared: {password_file: {hunter2: x}}}\n",
		"cache: {shared: {password_file: [hunter2]}}\n",
		"cache:\n  shared:\n    password_file: \"hunter2\n",
		"cache:\n  shared:\n    password_file: hunter2: x\n",
		"cache: {shared: [\"redis://:hunter2@db\"]}\n",
		"redis://:hunter2@db\n",
		"sts: {proxy: \"http://u:hunter2@p:1\"}\n",
		"listen: [\"redis://:hunter2@db\"]\n",
	} {
		_, err := config.Parse("f", []byte(text))
		if err == nil {
			t.Errorf("%q is accepted", text)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Files that are made to be slow or deep cost little.
func TestHostileFilesAreRefused(t *testing.T) {
	for name, piece := range map[string]string{
		"brackets": "[", "braces": "{", "dashes": "- ", "values": "a: b\n", "keys on a line": "a: ",
		"quotes": "\"", "list": "- a\n", "tags": "!a ", "anchors": "&a ", "question marks": "? ", "blocks": "|\n",
		"commas": "[,", "closing": "]",
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := config.Parse("f", []byte(strings.Repeat(piece, 200_000/len(piece)))); err == nil {
				t.Errorf("accepted as %+v", c)
			}
		})
	}
}

func TestAFileOfMoreThanOneMiBIsRefused(t *testing.T) {
	line := "# " + strings.Repeat("x", 61) + "\n"
	text := strings.Repeat(line, 1<<20/len(line))
	if _, err := config.Parse("f", []byte(text)); err != nil {
		t.Errorf("1 MiB of comments: %v", err)
	}
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(path)
	if want := path + ":1:1: the file is larger than 1 MiB (1048576 bytes)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLoadTellsAMissingFileFromABadOne(t *testing.T) {
	dir := t.TempDir()
	if _, err := config.Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v, want fs.ErrNotExist", err)
	}
	if _, err := config.Load(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory: got %v, want another error than fs.ErrNotExist", err)
	}
	if _, ok := errors.AsType[config.Faults](errLoad(t, dir)); ok {
		t.Error("a directory is no file with faults")
	}
}

func errLoad(t *testing.T, path string) error {
	t.Helper()
	_, err := config.Load(path)
	return err
}
