// Package output writes what commands answer: as a table for people, or as JSON
// or YAML of one shape for programs.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Format is how an answer is written.
type Format string

// The formats.
const (
	FormatTable Format = "table" // aligned columns, numbers with units
	FormatWide  Format = "wide"  // the same with more columns
	FormatJSON  Format = "json"  // indented; raw numbers
	FormatYAML  Format = "yaml"  // the same content
)

var formats = []Format{FormatTable, FormatWide, FormatJSON, FormatYAML}

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *Format) Set(text string) error {
	if !slices.Contains(formats, Format(text)) {
		return fmt.Errorf("it is table, wide, json or yaml")
	}
	*f = Format(text)
	return nil
}

// Options are what the flags of a command say of its output.
type Options struct {
	Format    Format
	NoHeaders bool
}

// Flags adds --output and --no-headers to a command.
func Flags(c *cobra.Command) *Options {
	o := &Options{Format: FormatTable}
	c.Flags().VarP(&o.Format, "output", "o", "how to write it: table, wide, json or yaml")
	c.Flags().BoolVar(&o.NoHeaders, "no-headers", false, "leave out the headings of tables")
	// There is such a flag: the error is impossible.
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "wide", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// Tabular reports whether the answer is for people.
func (o *Options) Tabular() bool { return o.Format == FormatTable || o.Format == FormatWide }

// Write writes an answer: value itself as JSON or YAML, or what table makes of
// it.
func (o *Options) Write(out io.Writer, value any, table func(out io.Writer) error) error {
	switch o.Format {
	case FormatJSON:
		return writeJSON(out, value)
	case FormatYAML:
		return writeYAML(out, value)
	}
	return table(out)
}

func writeJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeYAML writes what JSON has, in the same order.
func writeYAML(out io.Writer, value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	var node yaml.Node // JSON is YAML
	if err := yaml.Unmarshal(text.Bytes(), &node); err != nil {
		return err
	}
	plain(&node)
	into := yaml.NewEncoder(out)
	into.SetIndent(2)
	if err := into.Encode(&node); err != nil {
		return err
	}
	return into.Close()
}

// oldBooleans are strings that YAML 1.1 takes for booleans: they stay in
// quotes.
var oldBooleans = []string{"y", "n", "yes", "no", "on", "off"}

// plain takes JSON's braces and quotes away where YAML needs none.
func plain(node *yaml.Node) {
	if node.Kind == yaml.MappingNode || node.Kind == yaml.SequenceNode {
		node.Style &^= yaml.FlowStyle
		if len(node.Content) == 0 {
			node.Style |= yaml.FlowStyle // {} and []
		}
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" && !slices.Contains(oldBooleans, strings.ToLower(node.Value)) {
		node.Style &^= yaml.DoubleQuotedStyle
	}
	for _, inner := range node.Content {
		plain(inner)
	}
}

// List writes a list of any length item by item, so that memory does not grow
// with it: each calls add for every item. As JSON and YAML it is an object with
// the list under a key; otherwise row is called for each, and the table is
// written in pieces.
func List[Item any](o *Options, out io.Writer, key string, table *Table, row func(t *Table, item *Item), each func(add func(*Item) error) error) error {
	l := &list{out: out, key: key}
	add := func(item *Item) error {
		switch o.Format {
		case FormatJSON:
			return l.json(item)
		case FormatYAML:
			return l.yaml(item)
		}
		row(table, item)
		return table.flushIfLong(out)
	}
	if err := each(add); err != nil {
		return err
	}
	switch o.Format {
	case FormatJSON:
		return l.endJSON()
	case FormatYAML:
		return l.endYAML()
	}
	return table.Flush(out)
}

// list is a list that is being written.
type list struct {
	out   io.Writer
	key   string
	count int
}

func (l *list) json(item any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("    ", "  ")
	if err := encoder.Encode(item); err != nil {
		return err
	}
	before := fmt.Sprintf("{\n  %q: [\n    ", l.key)
	if l.count > 0 {
		before = ",\n    "
	}
	l.count++
	_, err := fmt.Fprintf(l.out, "%s%s", before, bytes.TrimRight(text.Bytes(), "\n"))
	return err
}

func (l *list) endJSON() error {
	if l.count == 0 {
		_, err := fmt.Fprintf(l.out, "{\n  %q: []\n}\n", l.key)
		return err
	}
	_, err := fmt.Fprint(l.out, "\n  ]\n}\n")
	return err
}

func (l *list) yaml(item any) error {
	var text strings.Builder
	if err := writeYAML(&text, []any{item}); err != nil {
		return err
	}
	var out strings.Builder
	if l.count == 0 {
		fmt.Fprintf(&out, "%s:\n", l.key)
	}
	l.count++
	for line := range strings.Lines(text.String()) {
		if line != "\n" {
			out.WriteString("  ")
		}
		out.WriteString(line)
	}
	_, err := io.WriteString(l.out, out.String())
	return err
}

func (l *list) endYAML() error {
	if l.count > 0 {
		return nil
	}
	_, err := fmt.Fprintf(l.out, "%s: []\n", l.key)
	return err
}
