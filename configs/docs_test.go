package configs

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

const (
	document   = "../docs/configuration.md"
	keysMarker = "<!-- Made from configs/fairlead.toml by `go test ./configs -run Documentation -update`. -->\n"
)

// keyTables writes what the reference says as Markdown.
func keyTables(sections []*section) string {
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	var b strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n\n| key | default | meaning |\n|---|---|---|\n", s.title, s.text)
		for _, e := range s.keys {
			fallback := e.fallback
			switch {
			case e.required:
				fallback = "required"
			case e.literal:
				fallback = "`" + fallback + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", e.key, cell(fallback), cell(e.text))
		}
	}
	return b.String()
}

func TestDocumentation(t *testing.T) {
	sections, err := parseReference(Reference())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	text, tables, found := strings.Cut(string(data), keysMarker)
	if !found {
		t.Fatalf("%s has no line %q", document, keysMarker)
	}
	want := keyTables(sections)
	if *update {
		if err := os.WriteFile(document, []byte(text+keysMarker+want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if tables != want {
		t.Errorf("the tables of %s are not those of the reference; go test ./configs -run Documentation -update writes them", document)
	}

	blocks := regexp.MustCompile("(?ms)^```toml\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	if len(blocks) < 4 {
		t.Errorf("%s shows %d configurations", document, len(blocks))
	}
	for i, block := range blocks {
		c, err := Parse(fmt.Sprintf("block %d", i+1), []byte(block[1]))
		if err != nil {
			t.Error(err)
		} else if len(c.State.Services) == 0 {
			t.Errorf("block %d has no service", i+1)
		}
	}
}

// TestDocumentedErrors compares the messages that the documentation shows with
// the ones that such a file gets.
func TestDocumentedErrors(t *testing.T) {
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?ms)^  ```text\n(.*?)^  ```$").FindStringSubmatch(string(data))
	if m == nil {
		t.Fatalf("%s shows no errors", document)
	}
	file := strings.Repeat("#\n", 14) + `[[snat]]
address = "198.18.10.2"
[[pool]]
name = "web"
[[pool.backend]]
address = "198.18.10.101:8080"
weight = 70000
[[service]]
name = "web"
vip = "198.18.0.10"
port = 80
pool = "wbe"
mehtod = "nat"
protocol = "tcp"
`
	_, err = Parse("fairlead.toml", []byte(file))
	if err == nil {
		t.Fatal("no error")
	}
	if want := strings.ReplaceAll(m[1], "  fairlead.toml", "fairlead.toml"); err.Error()+"\n" != want {
		t.Errorf("got\n%v\nthe documentation shows\n%s", err, want)
	}
}
