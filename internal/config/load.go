package config

import (
	"fmt"
	"io"
	"os"
)

// maxFile is the most bytes of a configuration file.
const maxFile = 1 << 20

// Load reads the file at path. The error is [Faults] if the file was read and
// something is wrong in it; otherwise it wraps that of the operating system, so
// that fs.ErrNotExist can be told.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, text)
}

// Parse reads text, the content of a file that errors call name. The error, if
// any, is [Faults]: everything that is wrong, unless the text is no YAML, where
// the first fault of syntax hides what comes after.
func Parse(name string, text []byte) (*Config, error) {
	r := &report{file: name}
	c := Default()
	if root := parseYAML(text, r); root != nil {
		d := decoder{config: c, report: r, seen: map[string]position{}}
		d.mapping(root, "")
		check(c, d.seen, r)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}
