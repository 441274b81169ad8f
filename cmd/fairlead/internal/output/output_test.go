package output

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

type item struct {
	Name  string   `json:"name"`
	Bytes uint64   `json:"bytes"`
	Share float64  `json:"share"`
	Tags  []string `json:"tags"`
	Deep  struct {
		On bool `json:"on"`
	} `json:"deep"`
}

func items() []item {
	list := []item{{Name: "web", Bytes: 1 << 53, Share: 0.25, Tags: []string{"a<b", "true", "12", ""}}, {Name: "dns\n\x1b[2J", Tags: []string{}}}
	list[1].Deep.On = true
	return list
}

func write(t *testing.T, f Format, list []item) string {
	t.Helper()
	o := &Options{Format: f}
	var out bytes.Buffer
	table := o.Table("NAME", ">BYTES", "+SHARE", "DEEP")
	err := List(o, &out, "items", table, func(t *Table, i *item) {
		on := ""
		if i.Deep.On {
			on = "on"
		}
		t.Row(i.Name, Bytes(i.Bytes), Percent(i.Share), on)
	}, func(add func(*item) error) error {
		for i := range list {
			if err := add(&list[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestFormats asserts what each format makes of a list, to the letter.
func TestFormats(t *testing.T) {
	for format, want := range map[Format]string{
		FormatTable: "NAME      BYTES  DEEP\n" + "web       8 PiB  -\n" + "dns��[2J    0 B  on\n",
		FormatWide:  "NAME      BYTES  SHARE  DEEP\n" + "web       8 PiB  25.0%  -\n" + "dns��[2J    0 B  0.0%   on\n",
		FormatJSON: `{
  "items": [
    {
      "name": "web",
      "bytes": 9007199254740992,
      "share": 0.25,
      "tags": [
        "a<b",
        "true",
        "12",
        ""
      ],
      "deep": {
        "on": false
      }
    },
    {
      "name": "dns\n\u001b[2J",
      "bytes": 0,
      "share": 0,
      "tags": [],
      "deep": {
        "on": true
      }
    }
  ]
}
`,
		FormatYAML: `items:
  - name: web
    bytes: 9007199254740992
    share: 0.25
    tags:
      - a<b
      - "true"
      - "12"
      - ""
    deep:
      "on": false
  - name: "dns\n\e[2J"
    bytes: 0
    share: 0
    tags: []
    deep:
      "on": true
`,
	} {
		if got := write(t, format, items()); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", format, got, want)
		}
	}
}

// TestOneShape asserts that JSON and YAML say the same, of a list and of a
// value, and of lists of nothing.
func TestOneShape(t *testing.T) {
	for _, list := range [][]item{items(), items()[:1], {}} {
		var fromJSON, fromYAML any
		if err := json.Unmarshal([]byte(write(t, FormatJSON, list)), &fromJSON); err != nil {
			t.Fatal(err)
		}
		yamlToJSON(t, write(t, FormatYAML, list), &fromYAML)
		if !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Errorf("JSON %v\nYAML %v", fromJSON, fromYAML)
		}
		var asJSON, asYAML bytes.Buffer
		value := map[string]any{"items": list}
		for out, f := range map[*bytes.Buffer]Format{&asJSON: FormatJSON, &asYAML: FormatYAML} {
			if err := (&Options{Format: f}).Write(out, value, func(io.Writer) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if got := write(t, FormatJSON, list); got != asJSON.String() {
			t.Errorf("a list is written\n%s\nthe same as a value\n%s", got, asJSON.String())
		}
		if got := write(t, FormatYAML, list); got != asYAML.String() {
			t.Errorf("a list is written\n%s\nthe same as a value\n%s", got, asYAML.String())
		}
	}
}

func yamlToJSON(t *testing.T, text string, into any) {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, into); err != nil {
		t.Fatal(err)
	}
}

// TestLongTable asserts that a long list is written in pieces, with headings
// once or not at all, and with columns that never get narrower.
func TestLongTable(t *testing.T) {
	list := make([]item, 2*rowsAtOnce+10)
	for i := range list {
		list[i].Name = "n" + strconv.Itoa(i)
	}
	lines := strings.Split(strings.TrimSuffix(write(t, FormatTable, list), "\n"), "\n")
	if len(lines) != len(list)+1 || strings.Count(strings.Join(lines, "\n"), "NAME") != 1 {
		t.Errorf("%d lines of %d items", len(lines), len(list))
	}
	for i := 2; i < len(lines); i++ {
		if len(lines[i]) < len(lines[i-1]) {
			t.Fatalf("line %d is shorter than the one before:\n%s\n%s", i, lines[i-1], lines[i])
		}
	}
	o := &Options{Format: FormatTable, NoHeaders: true}
	table := o.Table("A", "B")
	table.Row("1", "2")
	var out bytes.Buffer
	if err := table.Flush(&out); err != nil || out.String() != "1  2\n" {
		t.Errorf("without headings: %q, %v", out.String(), err)
	}
}

// TestFlags asserts what the flags take, and what they say of anything else.
func TestFlags(t *testing.T) {
	c := &cobra.Command{Use: "x"}
	o := Flags(c)
	if err := c.ParseFlags([]string{"-o", "yaml", "--no-headers"}); err != nil || o.Format != FormatYAML || !o.NoHeaders {
		t.Errorf("%v, %+v", err, o)
	}
	want := `invalid argument "xml" for "-o, --output" flag: it is table, wide, json or yaml`
	if err := c.ParseFlags([]string{"-o", "xml"}); err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}
