package packet_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// notInlined are the methods of header types that loop over options, and so
// cost a call.
var notInlined = map[string]bool{
	"TCPOptions.Next": true, "TCPOptions.MSS": true,
	"NDP.LinkLayer": true, "NDP.HasOption": true, "NDP.ValidOptions": true, "NDP.find": true,
}

// mustInline are functions outside the header types that the hot path counts
// on costing no call.
var mustInline = []string{
	"Fold", "Finish", "fold64", "UDPChecksum", "Delta.Word", "Delta.Long", "Delta.Apply", "Addr4", "Addr16",
	"Addr.Is4", "Addr.Put4", "Addr.Put16", "IsVLAN", "ECN", "DSCP", "WithECN",
	"Delta.Addr", "ipv4SourceInvalid", "ipv6SourceInvalid", "tcpFlagsInvalid", "ipv4MinChecksumOK", "isExtension",
}

// The compiler says which functions it can inline; every accessor of every
// header type must be among them.
func TestAccessorsAreInlined(t *testing.T) {
	out, err := exec.Command("go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	inlined := map[string]bool{}
	for _, m := range regexp.MustCompile(`can inline (\S+)`).FindAllStringSubmatch(string(out), -1) {
		inlined[m[1]] = true
	}
	if len(inlined) < 100 {
		t.Fatalf("the compiler names %d functions that it can inline; is its output understood?\n%s", len(inlined), out)
	}
	names := append(headerMethods(t), mustInline...)
	for _, name := range names {
		if !inlined[name] && !notInlined[name] {
			t.Errorf("%s is not inlined", name)
		}
	}
}

// headerMethods are the methods of the package's header types, as in the
// compiler's messages.
func headerMethods(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	headers := map[string]bool{}
	var names []string
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if array, ok := spec.Type.(*ast.ArrayType); ok && array.Len == nil {
					headers[spec.Name.Name] = true
				}
			}
			return true
		})
	}
	for _, file := range files {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			if recv, ok := fn.Recv.List[0].Type.(*ast.Ident); ok && headers[recv.Name] {
				names = append(names, recv.Name+"."+fn.Name.Name)
			}
		}
	}
	if len(headers) < 14 {
		t.Fatalf("only %d header types found: %v", len(headers), headers)
	}
	return names
}
