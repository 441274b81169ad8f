package fairlead_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairlead/configs"
	"fairlead/dataplane/reason"
)

var (
	fencedBlock     = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	makeTarget      = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	makeCommand     = regexp.MustCompile(`(?m)(?:^|&& )\s*(?:sudo )?make ([a-z][a-z-]*)`)
	ownCommand      = regexp.MustCompile(`(?m)(?:^|[\s/])fairlead((?: [a-z][a-z0-9]*(?:-[a-z]+)*)+)((?: +--[a-z-]+(?: +[^\s-]\S*)?)*)`)
	versionVariable = regexp.MustCompile(`-X (\S+)=\$\(VERSION\)`)
	flagName        = regexp.MustCompile(`--[a-z-]+`)
	relativeLink    = regexp.MustCompile(`\]\(([^):#]+)(?:#[^)]*)?\)`)
	codeInMarkup    = regexp.MustCompile("`[^`\n]+`")
	fencedMarkers   = regexp.MustCompile("(?m)^```")
)

// documents lists the Markdown files for readers.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md"}
	err := filepath.WalkDir("docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// codeIn returns what a document shows as code: fenced blocks, and words in
// backquotes.
func codeIn(text string) []string {
	var code []string
	for _, block := range fencedBlock.FindAllStringSubmatch(text, -1) {
		code = append(code, block[2])
	}
	for _, words := range codeInMarkup.FindAllString(fencedBlock.ReplaceAllString(text, ""), -1) {
		code = append(code, strings.Trim(words, "`"))
	}
	return code
}

// TestDocumentedConfigurations loads every TOML block of the documentation.
func TestDocumentedConfigurations(t *testing.T) {
	loaded := 0
	for _, file := range documents(t) {
		text := read(t, file)
		for _, at := range fencedBlock.FindAllStringSubmatchIndex(text, -1) {
			if text[at[2]:at[3]] != "toml" {
				continue
			}
			name := fmt.Sprintf("%s, block at line %d", file, 1+strings.Count(text[:at[0]], "\n"))
			if _, err := configs.Parse(name, []byte(text[at[4]:at[5]])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			loaded++
		}
		if n := len(fencedMarkers.FindAllString(text, -1)); n != 2*len(fencedBlock.FindAllString(text, -1)) {
			t.Errorf("%s: %d fences do not make %d blocks", file, n, n/2)
		}
	}
	if loaded == 0 {
		t.Error("the documentation shows no configuration")
	}
}

// TestDocumentedMakeTargets finds every `make` command of the documentation
// among the targets.
func TestDocumentedMakeTargets(t *testing.T) {
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	named := 0
	for _, file := range append(documents(t), "CHANGELOG.md") {
		for _, code := range codeIn(read(t, file)) {
			for _, m := range makeCommand.FindAllStringSubmatch(code, -1) {
				named++
				if !slices.Contains(targets, m[1]) {
					t.Errorf("%s names `make %s`, which the Makefile does not have", file, m[1])
				}
			}
		}
	}
	if named == 0 {
		t.Error("the documentation names no make target")
	}
}

// TestDocumentedCommands asks the program for help on every command of the
// documentation, and looks for the flags there.
func TestDocumentedCommands(t *testing.T) {
	binary := buildAsTheMakefileDoes(t, "v1.2.3-test")
	if out, err := exec.Command(binary, "version").Output(); err != nil || string(out) != "fairlead v1.2.3-test\n" {
		t.Errorf("the Makefile does not set the version: %q, %v", out, err)
	}
	helps := map[string]string{} // by command
	for _, file := range append(documents(t), "CHANGELOG.md") {
		for _, code := range codeIn(read(t, file)) {
			for _, m := range ownCommand.FindAllStringSubmatch(code, -1) {
				command, flags := m[1], flagName.FindAllString(m[2], -1)
				if _, asked := helps[command]; !asked {
					out, err := exec.Command(binary, append(strings.Fields(command), "--help")...).CombinedOutput()
					if err != nil {
						t.Errorf("%s names `fairlead%s`: %v\n%s", file, command, err, out)
					}
					helps[command] = string(out)
				}
				for _, flag := range flags {
					if !regexp.MustCompile(`(?m)[ ,]` + flag + `\b`).MatchString(helps[command]) {
						t.Errorf("%s names `fairlead%s %s`, which is no flag of it:\n%s", file, command, flag, helps[command])
					}
				}
			}
		}
	}
	if len(helps) == 0 {
		t.Error("the documentation names no command")
	}
}

// buildAsTheMakefileDoes builds the program with the version set by the linker,
// which is silent when there is no such variable.
func buildAsTheMakefileDoes(t *testing.T, version string) string {
	t.Helper()
	variable := versionVariable.FindStringSubmatch(read(t, "Makefile"))
	if variable == nil {
		t.Fatal("the Makefile sets no version")
	}
	binary := filepath.Join(t.TempDir(), "fairlead")
	cmd := exec.Command("go", "build", "-ldflags", "-X "+variable[1]+"="+version, "-o", binary, "./cmd/fairlead")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}

// TestDocumentedFiles follows every link to a file of the repository.
func TestDocumentedFiles(t *testing.T) {
	for _, file := range append(documents(t), "CHANGELOG.md") {
		text := codeInMarkup.ReplaceAllString(fencedBlock.ReplaceAllString(read(t, file), ""), "")
		for _, m := range relativeLink.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
	}
}

// TestEveryReasonIsExplained asserts that the operator's page names each
// reason that a packet's journey can end with.
func TestEveryReasonIsExplained(t *testing.T) {
	page := read(t, "docs/operations.md")
	for _, r := range reason.All() {
		if !strings.Contains(page, "`"+r.String()+"`") {
			t.Errorf("docs/operations.md does not explain %s", r)
		}
	}
}
