package main_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// ago is how long ago a fixed day is.
var ago, spaces = regexp.MustCompile(`\b\d+d\d+h\b`), regexp.MustCompile(` {2,}`)

// TestGolden compares what commands say of a fixed node with what they are to
// say, to the letter. "go test ./cmd/fairlead -run TestGolden -update" writes
// the files anew.
func TestGolden(t *testing.T) {
	socket := serveNode(t, &fixedNode{})
	t.Setenv("TZ", "UTC")
	all, lines := []string{"table", "wide", "json", "yaml"}, []string{"table", "wide", "json"}
	for _, c := range []struct {
		command string
		code    int
		formats []string
	}{
		{"status", 0, all},
		{"services", 0, all},
		{"services web", 0, all},
		{"services --pool web", 0, all},
		{"backends", 0, all},
		{"backends --state down", 0, all},
		{"explain 203.0.113.9:1234 tcp 198.18.0.10:80", 0, all},
		{"flows", 0, all},
		{"flows --count", 0, all},
		{"flows --count --by backend", 0, all},
		{"flows --watch", 0, lines},
		{"drops", 0, all},
		{"drops --watch", 0, lines},
		{"neighbors", 0, all},
		{"neighbors --problems", 0, all},
		{"routes", 0, all},
		{"routes --problems", 0, all},
		{"addresses", 0, all},
		{"bgp peers", 1, all}, // one does not stand
		{"bgp routes", 0, all},
		{"config history", 0, all},
		{"config show", 0, all},
		{"config diff", 1, all}, // something would change
		{"config reload --dry-run", 0, all},
		{"drain", 0, all},
		{"undrain", 0, all},
		{"drain status", 0, all},
		{"backend settings", 0, all},
		{"upgrade status", 0, all},
		{"log-level", 0, all},
		{"cluster members", 0, all},
		{"cluster status", 1, all}, // it fails
		{"cluster diff", 1, all},   // something differs
		{"cluster diff lb4", 0, all},
		{"cluster key list", 0, all},
		{"cluster key rotate", 0, all},
		{"cluster revoked", 0, all},
		{"cluster revoke lb3 --reason stolen", 0, all},
		{"cluster restore lb3", 0, all},
		{"drain lb2", 0, all},
		{"drain lb2 --wait", 0, all},
		{"drain status lb2", 0, all},
		{"undrain lb3", 0, all},
		{"status --all", 0, all},
		{"services --all", 0, all},
		{"services --node lb2", 0, all},
		{"backends --all", 0, all},
		{"drops --all", 0, all},
		{"k8s status", 0, all},
		{"k8s services", 0, all},
		{"k8s services --problems", 0, all},
		{"k8s services default/web", 0, all},
	} {
		for _, format := range c.formats {
			t.Run(c.command+" "+format, func(t *testing.T) {
				r := fairlead(t, t.TempDir(), append(words(c.command), "--socket", socket, "-o", format)...)
				if r.code != c.code || r.stderr != "" {
					t.Fatalf("exit status %d, want %d: %s", r.code, c.code, r.stderr)
				}
				got := r.stdout
				if ago.MatchString(got) { // how wide it is changes with the years
					got = spaces.ReplaceAllString(ago.ReplaceAllString(got, "AGO"), "  ")
				}
				compareGolden(t, strings.NewReplacer(" ", "_", ":", "-", "/", "-").Replace(c.command)+"."+format, got)
			})
		}
	}
}

// TestGoldenCheck compares in the same way what is said of a configuration with
// a warning, and of one with errors.
func TestGoldenCheck(t *testing.T) {
	const lonely = "[[pool]]\nname = \"p\"\n[[service]]\nname = \"s\"\nvip = \"198.18.0.1\"\nprotocol = \"tcp\"\nport = 1\npool = \"p\"\nmethod = \"l2\"\n"
	for _, c := range []struct {
		name, config string
		code         int
		err          string
	}{
		{"check_warning", lonely, 0, ""},
		{"check_errors", "nonsense = 1\n[dataplane]\nring_size = 1000\n", 1, "fairlead: f.toml: 2 errors\n"},
	} {
		for _, format := range []string{"table", "wide", "json", "yaml"} {
			t.Run(c.name+" "+format, func(t *testing.T) {
				dir := t.TempDir()
				write(t, dir, "f.toml", []byte(c.config))
				r := fairlead(t, dir, "check", "--offline", "--config", "f.toml", "-o", format)
				if r.code != c.code || r.stderr != c.err {
					t.Fatalf("exit status %d, want %d: %s", r.code, c.code, r.stderr)
				}
				compareGolden(t, c.name+"."+format, r.stdout)
			})
		}
	}
}

// TestFormats asserts that every command has -o, but for those that show
// nothing, or a text that is as it is.
func TestFormats(t *testing.T) {
	others := []string{
		"backend", "run", "replay", "profile", // what they have to say is their log, or a file
		"bgp", "config", "completion", // groups of commands
		"k8s", "k8s manifests", "k8s crds", "k8s kubeconfig", "cluster", "cluster key", "cluster key generate", "config reference", "completion bash", "completion fish", "completion powershell", "completion zsh",
	}
	r := fairlead(t, t.TempDir(), "reference")
	sections := strings.Split(r.stdout, "\n## fairlead ")[1:]
	if r.code != 0 || len(sections) < 40 {
		t.Fatalf("exit status %d, %d commands", r.code, len(sections))
	}
	for _, section := range sections {
		name, text, _ := strings.Cut(section, "\n")
		if has, want := strings.Contains(text, "\n  -o, --output format "), !slices.Contains(others, name); has != want {
			t.Errorf("fairlead %s: has -o table|wide|json|yaml: %v, want %v", name, has, want)
		}
	}
}

// compareGolden compares with a file of testdata/cli, or writes it.
func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", "cli", name)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
