package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder sets what a file says in a configuration, by the table of keys.
type decoder struct {
	config *Config
	report *report
	// seen is where each key stands that the file has.
	seen map[string]position
}

// mapping sets the keys of one section; prefix is its name with a final dot, or
// empty.
func (d *decoder) mapping(m *ast.MappingNode, prefix string) {
	for _, pair := range m.Values {
		d.pair(pair, prefix)
	}
}

func (d *decoder) pair(pair *ast.MappingValueNode, prefix string) {
	t := pair.Key.GetToken()
	at, name := positionOf(t), prefix+t.Value
	if first, ok := d.seen[name]; ok {
		d.report.add(at, t.Value, fmt.Sprintf("this key stands on line %d already", first.line), "")
		return
	}
	k, isKey := findKey(name)
	switch {
	case strings.Contains(t.Value, "."):
		d.report.add(at, t.Value, unknownIn(prefix), nearestKey(prefix, t.Value))
	case isKey:
		d.seen[name] = at
		k.value.set(d.config, pair.Value, d.report)
	case isSection(name):
		d.seen[name] = at
		d.section(pair.Value, name)
	default:
		d.report.add(at, t.Value, unknownIn(prefix), nearestKey(prefix, t.Value))
	}
}

func unknownIn(prefix string) string {
	if prefix == "" {
		return "there is no such key"
	}
	return "there is no such key in the section " + strings.TrimSuffix(prefix, ".")
}

// section reads the value of a section. A section in which everything is
// commented out is none.
func (d *decoder) section(n ast.Node, name string) {
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.MappingNode:
		d.mapping(n, name+".")
	default:
		t := n.GetToken()
		d.report.add(positionOf(t), t.Value, name+" is a section: its keys stand below it, indented", "")
	}
}

// setting is the value of one key: how it is read and written.
type setting interface {
	set(c *Config, n ast.Node, r *report)
	show(c *Config) string
}

// scalar is a setting of one value.
type scalar[T any] struct {
	at     func(*Config) *T
	parse  func(word) (T, error)
	format func(T) string
}

func (s scalar[T]) set(c *Config, n ast.Node, r *report) {
	w, ok := wordOf(n)
	if !ok {
		t := n.GetToken()
		r.add(positionOf(t), t.Value, "one value is expected here, not a list or a section", "")
		return
	}
	v, err := s.parse(w)
	if err != nil {
		addFault(r, w, err)
		return
	}
	*s.at(c) = v
}

func (s scalar[T]) show(c *Config) string { return s.format(*s.at(c)) }

// list is a setting of any number of different values. The format is its
// values' identity.
type list[T any] struct {
	at     func(*Config) *[]T
	parse  func(word) (T, error)
	format func(T) string
}

func (l list[T]) set(c *Config, n ast.Node, r *report) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		l.notAList(n, r)
		return
	}
	var values []T
	seen := map[string]bool{}
	for _, n := range seq.Values {
		v, w, ok := l.item(n, r)
		if !ok {
			continue
		}
		if id := l.format(v); seen[id] {
			r.add(w.at, w.text, "this stands in the list twice", "")
		} else {
			seen[id] = true
			values = append(values, v)
		}
	}
	*l.at(c) = values
}

// item reads one value of the list.
func (l list[T]) item(n ast.Node, r *report) (v T, w word, ok bool) {
	w, ok = wordOf(n)
	if !ok {
		t := n.GetToken()
		r.add(positionOf(t), t.Value, "one value is expected here; text that holds a colon, or begins with [ or {, needs quotes", "")
		return v, w, false
	}
	v, err := l.parse(w)
	if err != nil {
		addFault(r, w, err)
		return v, w, false
	}
	return v, w, true
}

func (l list[T]) notAList(n ast.Node, r *report) {
	suggestion := ""
	w, ok := wordOf(n)
	if w.kind == kindNothing {
		addFault(r, w, nil)
		return
	}
	if ok {
		if v, err := l.parse(w); err == nil {
			suggestion = "[" + l.format(v) + "]"
		}
	}
	t := n.GetToken()
	r.add(positionOf(t), t.Value, "a list is expected here, in brackets or with a dash before each value; [] is the empty list", suggestion)
}

func (l list[T]) show(c *Config) string {
	values := *l.at(c)
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = l.format(v)
	}
	return "[" + strings.Join(words, ", ") + "]"
}
