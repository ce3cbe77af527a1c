package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// What the YAML library is given to parse. Its time grows with the square of
// the number of tokens, and its stack with their nesting.
const (
	maxTokens  = 20_000
	maxNesting = 16
)

// parseYAML returns the mapping that text consists of, or nil if it is empty or
// something is wrong with it.
func parseYAML(text []byte, r *report) (root *ast.MappingNode) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if checkText(text, r); len(r.faults) > 0 {
		return nil
	}
	// A defect of the library is an error in the file, not the end of a
	// daemon that reads its configuration again.
	defer func() {
		if recover() != nil {
			r.add(position{1, 1}, "", "this YAML cannot be parsed", "")
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if checkTokens(tokens, r); len(r.faults) > 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		addSyntax(text, err, r)
		return nil
	}
	return rootOf(file, r)
}

// checkText refuses what is to be refused before anything is parsed.
func checkText(text []byte, r *report) {
	if len(text) > maxFile {
		r.add(position{1, 1}, "", fmt.Sprintf("the file is larger than 1 MiB (%d bytes)", maxFile), "")
		return
	}
	line := 0
	for l := range bytes.Lines(text) {
		line++
		l = bytes.TrimRight(l, "\r\n")
		checkLine(position{line: line}, l, r)
	}
}

// checkLine finds bytes that are no text, and tabs where YAML counts blanks.
func checkLine(at position, line []byte, r *report) {
	column, indent := 0, true
	for i := 0; i < len(line); {
		c, n := utf8.DecodeRune(line[i:])
		column++
		at.column = column
		if c == utf8.RuneError && n == 1 {
			r.add(at, "", "the file is not in UTF-8", "")
			return
		}
		if indent && c == '\t' && saysSomething(line[i:]) {
			r.add(at, string(line), "there is a tab in the indentation; YAML indents with blanks only", "")
			return
		}
		if c != '\t' && isControl(c) {
			r.add(at, string(line), fmt.Sprintf("control character %q", c), "")
			return
		}
		indent = indent && isBlank(c)
		i += n
	}
}

func isBlank(c rune) bool { return c == ' ' || c == '\t' }

// saysSomething reports whether there is more on a line than blanks and a
// comment.
func saysSomething(line []byte) bool {
	line = bytes.TrimLeft(line, "\t ")
	return len(line) > 0 && line[0] != '#'
}

// isControl reports whether c has no place in a text of one line. Some of them
// end a line for one reader and not for another.
func isControl(c rune) bool {
	return c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == utf8.RuneError
}

// refused are the parts of YAML that a configuration does not need.
var refused = map[token.Type]string{
	token.AnchorType:     "anchors are not understood here",
	token.AliasType:      "aliases are not understood here; text that begins with * needs quotes",
	token.TagType:        "tags are not understood here; text that begins with ! needs quotes",
	token.MergeKeyType:   "merge keys are not understood here",
	token.MappingKeyType: "keys that begin with ? are not understood here",
	token.DirectiveType:  "directives are not understood here",
	token.LiteralType:    "text of several lines is not understood here",
	token.FoldedType:     "text of several lines is not understood here",
}

// checkTokens refuses the parts of YAML that are not understood, and what the
// library could not parse in bounded time and space.
func checkTokens(tokens token.Tokens, r *report) {
	var count, flow, dashes int
	var prev *token.Token
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		checkToken(prev, t, r)
		count++
		flow += flowDepth(t)
		dashes = dashDepth(prev, t, dashes)
		if max(flow, dashes) > maxNesting || count > maxTokens {
			r.add(positionOf(t), "", "the file is nested too deeply or holds too many values", "")
			return
		}
		prev = t
	}
}

// checkToken refuses a token for its type, or for the one before it.
func checkToken(prev, t *token.Token, r *report) {
	if why, ok := refused[t.Type]; ok {
		r.add(positionOf(t), strings.TrimSpace(t.Value), why, "")
	}
	if prev == nil {
		return
	}
	if t.Type == token.DocumentHeaderType {
		r.add(positionOf(t), t.Value, "a second document begins here; there can be only one", "")
	}
	if prev.Type == token.DocumentEndType {
		r.add(positionOf(t), t.Value, "the document has ended before", "")
	}
}

func flowDepth(t *token.Token) int {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		return 1
	case token.MappingEndType, token.SequenceEndType:
		return -1
	default:
		return 0
	}
}

// dashDepth counts the dashes that stand one after the other, with nothing
// between them, since each begins a list in the list before.
func dashDepth(prev, t *token.Token, depth int) int {
	switch {
	case t.Type != token.SequenceEntryType:
		return 0
	case prev != nil && prev.Type == token.SequenceEntryType && prev.Position.Line == t.Position.Line:
		return depth + 1
	default:
		return 1
	}
}

// positionOf returns where a token stands.
func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{t.Position.Line, t.Position.Column}
}

// addSyntax reports an error of the library, with the line on which it is.
func addSyntax(text []byte, err error, r *report) {
	at, message := position{1, 1}, "it cannot be parsed"
	if e, ok := errors.AsType[yaml.Error](err); ok {
		at, message = positionOf(e.GetToken()), e.GetMessage()
	}
	line := ""
	if lines := bytes.Split(text, []byte("\n")); at.line <= len(lines) {
		line = strings.TrimSpace(string(lines[at.line-1]))
	}
	reason := "this is no valid YAML (" + message + ")"
	if hint := hintFor(line); hint != "" {
		reason += ": " + hint
	}
	r.add(at, line, reason, "")
}

// hintFor guesses what the writer of a line that is no YAML overlooked.
func hintFor(line string) string {
	key, value, colon := strings.Cut(line, ":")
	switch {
	case strings.Contains(line, "]:"), strings.Contains(line, "::"):
		return "an IPv6 address needs quotes"
	case !colon && strings.Contains(line, " "):
		return "is there a colon missing?"
	case colon && !strings.ContainsAny(key, " [{\"'-") && value != "" && value[0] != ' ':
		return "there is a blank missing after the colon"
	case strings.Count(line, `"`)%2 == 1:
		return "is there a quote missing?"
	default:
		return "are this line and the next one indented as the others of their section?"
	}
}

// rootOf returns the one mapping of the file; nil if the file is empty.
func rootOf(file *ast.File, r *report) *ast.MappingNode {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			body = doc.Body
		}
	}
	switch n := body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil
	case *ast.MappingNode:
		return n
	default:
		t := n.GetToken()
		r.add(positionOf(t), t.Value, "a configuration consists of lines with a key, a colon, a blank and a value", "")
		return nil
	}
}
