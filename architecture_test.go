package fairlead_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	modulePath       = "fairlead"
	architectureFile = "docs/architecture.md"
)

// pkg is what `go list` tells of a package; import paths of ours are without
// the module's name.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// room is a row of the table in docs/architecture.md.
type room struct {
	pattern string   // a package, or a folder with "/..."
	imports []string // patterns; "..." is everything
}

// TestImportDirections compares the imports of every package with the table in
// docs/architecture.md.
func TestImportDirections(t *testing.T) {
	rooms, err := readRooms()
	if err != nil {
		t.Fatal(err)
	}
	packages, err := listPackages()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range checkImports(rooms, packages) {
		t.Error(problem)
	}
}

// TestImportRules shows that the check finds what it is for.
func TestImportRules(t *testing.T) {
	rooms := []room{
		{"dataplane", []string{"dataplane/..."}},
		{"dataplane/nic", nil},
		{"dataplane/nic/nictest", []string{"dataplane/nic"}},
		{"xdp", []string{"dataplane/nic"}},
		{"cmd/fairlead/...", []string{"..."}},
		{"perf/...", []string{"..."}},
		{"cluster", nil},
	}
	packages := []pkg{
		{ImportPath: "dataplane", Imports: []string{"dataplane/nic", "xdp"}, XTestImports: []string{"dataplane", "dataplane/nic/nictest", "perf/lab", "xdp"}},
		{ImportPath: "dataplane/nic", TestImports: []string{"dataplane", "dataplane/nic/nictest"}},
		{ImportPath: "dataplane/nic/nictest", Imports: []string{"dataplane/nic"}},
		{ImportPath: "xdp", Imports: []string{"dataplane/nic", "dataplane"}, TestImports: []string{"dataplane/nic/nictest"}},
		{ImportPath: "cmd/fairlead", Imports: []string{"xdp", "perf/lab"}},
		{ImportPath: "perf/lab", Imports: []string{"xdp"}},
		{ImportPath: "extra"},
	}
	want := []string{
		"dataplane imports xdp: its row in docs/architecture.md does not allow that",
		"a test of dataplane imports xdp: tests may import what the package may, its own top-level folder, perf, and packages named ...test",
		"xdp imports dataplane: its row in docs/architecture.md does not allow that",
		"cmd/fairlead imports perf/lab: perf is for tests only",
		"extra has no row in the table of docs/architecture.md",
		"docs/architecture.md has a row for cluster, which is no package",
	}
	if got := checkImports(rooms, packages); !slices.Equal(got, want) {
		t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func checkImports(rooms []room, packages []pkg) []string {
	var problems []string
	used := map[string]bool{}
	for _, p := range packages {
		i := slices.IndexFunc(rooms, func(r room) bool { return matches(r.pattern, p.ImportPath) })
		if i < 0 {
			problems = append(problems, fmt.Sprintf("%s has no row in the table of %s", p.ImportPath, architectureFile))
			continue
		}
		used[rooms[i].pattern] = true
		problems = append(problems, checkPackage(p, rooms[i])...)
	}
	for _, r := range rooms {
		if !used[r.pattern] {
			problems = append(problems, fmt.Sprintf("%s has a row for %s, which is no package", architectureFile, r.pattern))
		}
	}
	return problems
}

func checkPackage(p pkg, r room) []string {
	var problems []string
	for _, imported := range p.Imports {
		switch {
		case topLevel(imported) == "perf" && topLevel(p.ImportPath) != "perf":
			problems = append(problems, fmt.Sprintf("%s imports %s: perf is for tests only", p.ImportPath, imported))
		case !r.allows(imported):
			problems = append(problems, fmt.Sprintf("%s imports %s: its row in %s does not allow that", p.ImportPath, imported, architectureFile))
		}
	}
	for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
		if !r.allows(imported) && topLevel(imported) != topLevel(p.ImportPath) &&
			topLevel(imported) != "perf" && !strings.HasSuffix(imported, "test") {
			problems = append(problems, fmt.Sprintf("a test of %s imports %s: tests may import what the package may, "+
				"its own top-level folder, perf, and packages named ...test", p.ImportPath, imported))
		}
	}
	return problems
}

func (r room) allows(imported string) bool {
	return slices.ContainsFunc(r.imports, func(pattern string) bool { return matches(pattern, imported) })
}

// matches understands "a/b", "a/..." (a and all below) and "...".
func matches(pattern, path string) bool {
	folder, below := strings.CutSuffix(pattern, "...")
	if !below {
		return path == pattern
	}
	return strings.HasPrefix(path+"/", folder)
}

func topLevel(path string) string {
	top, _, _ := strings.Cut(path, "/")
	return top
}

var (
	// roomStart begins each row of the table, and roomRow is a whole one.
	roomStart = regexp.MustCompile("(?m)^\\| `.*$")
	roomRow   = regexp.MustCompile("^\\| `([^`]+)` \\| [^|]+ \\| ([^|]+) \\|$")
	// quotedName is one name in the last column.
	quotedName = regexp.MustCompile("^`([^`]+)`$")
)

// readRooms reads the table of docs/architecture.md.
func readRooms() ([]room, error) {
	text, err := os.ReadFile(architectureFile)
	if err != nil {
		return nil, err
	}
	var rooms []room
	for _, line := range roomStart.FindAllString(string(text), -1) {
		row := roomRow.FindStringSubmatch(line)
		if row == nil {
			return nil, fmt.Errorf("%s: %q is not a row of three columns", architectureFile, line)
		}
		r := room{pattern: row[1]}
		switch row[2] {
		case "nothing":
		case "everything":
			r.imports = []string{"..."}
		default:
			for name := range strings.SplitSeq(row[2], ", ") {
				quoted := quotedName.FindStringSubmatch(name)
				if quoted == nil {
					return nil, fmt.Errorf("%s: row of %s: %q is not a package in backquotes", architectureFile, row[1], name)
				}
				r.imports = append(r.imports, quoted[1])
			}
		}
		rooms = append(rooms, r)
	}
	if len(rooms) == 0 {
		return nil, fmt.Errorf("%s has no table of packages", architectureFile)
	}
	return rooms, nil
}

// listPackages lists all packages of the module, but the one this test is in.
func listPackages() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	var packages []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("%v: %w", cmd.Args, err)
		}
		if p.ImportPath == modulePath {
			continue
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, modulePath+"/")
		p.Imports, p.TestImports, p.XTestImports = ours(p.Imports), ours(p.TestImports), ours(p.XTestImports)
		packages = append(packages, p)
	}
}

// ours keeps the imports of this module, each once and without its name.
func ours(imports []string) []string {
	found := map[string]struct{}{}
	for _, path := range imports {
		if inside, ok := strings.CutPrefix(path, modulePath+"/"); ok {
			found[inside] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
