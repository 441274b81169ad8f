package logging

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// synonyms are keys that go by another name everywhere.
var synonyms = map[string]string{
	"err": "error", "iface": "interface", "ifname": "interface", "nic": "interface", "gen": "generation", "addr": "address",
	"elapsed": "took", "duration": "took", "processid": "pid", "process_id": "pid", "svc": "service", "file": "path",
}

// TestKeys reads all log calls of the control process and of the programs: every
// value has a key, keys are spelled alike, and one thing goes by one name.
func TestKeys(t *testing.T) {
	spelling := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	calls := 0
	for _, root := range []string{"../../cmd", "../../controlplane"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			parsed, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !isLogCall(call) {
					return true
				}
				calls++
				at := files.Position(call.Pos())
				pairs := call.Args[1:]
				if call.Ellipsis != token.NoPos {
					pairs = pairs[:len(pairs)-1]
				}
				if len(pairs)%2 != 0 {
					t.Errorf("%s: a value without a key", at)
				}
				for i := 0; i+1 < len(pairs); i += 2 {
					literal, ok := pairs[i].(*ast.BasicLit)
					if !ok || literal.Kind != token.STRING {
						t.Errorf("%s: key %d is no constant", at, i/2+1)
						continue
					}
					key, err := strconv.Unquote(literal.Value)
					if err != nil || !spelling.MatchString(key) {
						t.Errorf("%s: key %s is not in lower case with underscores", at, literal.Value)
					}
					if other := synonyms[key]; other != "" {
						t.Errorf("%s: what is called %q here is %q elsewhere", at, key, other)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if calls < 50 {
		t.Errorf("only %d log calls were found", calls)
	}
}

// isLogCall reports whether a call writes a log line: a method of a level, of
// something that is called a log, with its message.
func isLogCall(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	switch method.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
	default:
		return false
	}
	switch x := method.X.(type) {
	case *ast.Ident:
		return x.Name == "log" || x.Name == "slog"
	case *ast.SelectorExpr:
		return x.Sel.Name == "log" || x.Sel.Name == "Log"
	}
	return false
}
