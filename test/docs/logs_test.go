package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sentences are what the program logs, by level.
type sentences map[string][]string

// logged returns every sentence that the program logs as an error or as a warning.
func logged(t *testing.T) sentences {
	t.Helper()
	all := sentences{}
	for _, dir := range []string{"cache", "cmd/tlspolicyd", "internal", "resolver", "socketmap"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			files, err := filepath.Glob(filepath.Join(path, "*.go"))
			all.read(t, files)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// read adds what the files of a package log.
func (all sentences) read(t *testing.T, files []string) {
	t.Helper()
	constants := map[string]string{}
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == 1 && len(v.Values) == 1 {
				constants[v.Names[0].Name] = constant(v.Values[0], nil)
			}
			return true
		})
	}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				all.add(call, constants)
			}
			return true
		})
	}
}

// add adds what a call logs, if it does.
func (all sentences) add(call *ast.CallExpr, constants map[string]string) {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	level, said := f.Sel.Name, call.Args[0]
	switch on := name(f.X); {
	case f.Sel.Name == "storeFailed":
		level, said = "Error", call.Args[1]
	case level != "Warn" && level != "Error" || on != "log" && on != "Log":
		return
	}
	if s := constant(said, constants); s != "" && !slices.Contains(all[level], s) {
		all[level] = append(all[level], s)
	}
}

func name(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	default:
		return ""
	}
}

// constant returns the constant text of an expression, if it is one.
func constant(x ast.Expr, constants map[string]string) string {
	switch x := x.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(x.Value)
		return s
	case *ast.BinaryExpr:
		return constant(x.X, constants) + constant(x.Y, constants)
	case *ast.Ident:
		return constants[x.Name]
	default:
		return ""
	}
}

var sentenceRow = regexp.MustCompile(`(?m)^\| ([^|]+) \|`)

// Every error and every warning is in the page about the log, and no other.
func TestTheLogIsExplained(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	all := logged(t)
	for level, heading := range map[string]string{"Error": "## Errors\n", "Warn": "## Warnings\n"} {
		_, table, _ := strings.Cut(string(page), heading)
		table, _, _ = strings.Cut(table, "\n## ")
		var rows []string
		for _, m := range sentenceRow.FindAllStringSubmatch(table, -1)[1:] {
			rows = append(rows, m[1])
		}
		for _, s := range all[level] {
			if !slices.ContainsFunc(rows, func(row string) bool { return explains(row, s) }) {
				t.Errorf("%s: logs.md does not have: %s", level, s)
			}
		}
		for _, row := range rows {
			if !slices.ContainsFunc(all[level], func(s string) bool { return explains(row, s) }) {
				t.Errorf("%s: nothing logs: %s", level, row)
			}
		}
	}
	if len(all["Error"]) < 20 || len(all["Warn"]) < 20 {
		t.Errorf("%d errors and %d warnings were found", len(all["Error"]), len(all["Warn"]))
	}
}

// explains reports whether a row of the page is about a sentence, of which it may
// have the beginning only.
func explains(row, sentence string) bool {
	begin, short := strings.CutSuffix(row, " …")
	return row == sentence || short && strings.HasPrefix(sentence, begin)
}
