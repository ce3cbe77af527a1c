//go:build e2e

package lab

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// Log is what a process says, in lines. It takes them as an [io.Writer].
type Log struct {
	mu      sync.Mutex // guards what follows
	lines   []string
	rest    []byte        // of a line that has no end yet
	changed chan struct{} // closed at the next line, if somebody waits
}

// Write implements [io.Writer].
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		l.lines = append(l.lines, string(l.rest[:i]))
		l.rest = l.rest[i+1:]
		if l.changed != nil {
			close(l.changed)
			l.changed = nil
		}
	}
}

// String returns all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n") + "\n" + string(l.rest)
}

// Len returns the number of lines.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

// About returns the lines in which any of the words occurs.
func (l *Log) About(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var about []string
	for _, line := range l.lines {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			about = append(about, line)
		}
	}
	return about
}

// Wait waits for a line with all of the words, at index from or later, and
// returns it.
func (l *Log) Wait(ctx context.Context, from int, words ...string) (string, error) {
	for {
		line, next, changed := l.find(from, words)
		if changed == nil {
			return line, nil
		}
		from = next
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-changed:
		}
	}
}

// find looks for a line. If there is none it returns where to go on, and a
// channel that is closed when there are more.
func (l *Log) find(from int, words []string) (string, int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines[min(from, len(l.lines)):] {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return line, 0, nil
		}
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return "", len(l.lines), l.changed
}
