package configs

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// uncomment switches on every line of the reference that is switched off.
func uncomment(ref []byte) []byte {
	return regexp.MustCompile(`(?m)^#([^ \n])`).ReplaceAll(ref, []byte("$1"))
}

func TestReferenceIsTheDefaults(t *testing.T) {
	got, err := Parse("fairlead.toml", Reference())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, Default()) {
		t.Errorf("the reference loads as\n%+v\nthe defaults are\n%+v", got, Default())
	}
	empty, err := Parse("empty.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(empty, Default()) {
		t.Errorf("an empty file loads as\n%+v\nthe defaults are\n%+v", empty, Default())
	}
	again := Reference()
	again[0] = 'x'
	if bytes.Equal(again, Reference()) {
		t.Error("the reference can be changed by its users")
	}
}

// TestReferenceExamplesLoad switches every example on.
func TestReferenceExamplesLoad(t *testing.T) {
	c, err := Parse("fairlead.toml", uncomment(Reference()))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Interfaces) != 1 || len(c.Neighbors) != 1 || len(c.State.SNATs) != 4 || len(c.State.VIPs) != 1 ||
		len(c.State.Pools) != 5 || len(c.State.Pools[0].Backends) != 2 || c.State.Pools[0].Check == nil || len(c.State.Services) != 1 || len(c.BGP.Peers) != 2 {
		t.Errorf("the examples load as %+v", c)
	}
}

// knownKeys are all keys that the reader asks for, as "[table] key".
func knownKeys(t *testing.T) map[string]bool {
	known := make(map[string]bool)
	r := &reader{hints: hintBudget, known: func(table, key string) {
		if table != "" {
			known[table+" "+key] = true
		}
	}}
	if _, err := r.parse("fairlead.toml", uncomment(Reference())); err != nil {
		t.Fatal(err)
	}
	return known
}

func TestReferenceDocumentsEveryKey(t *testing.T) {
	entries, err := parseReference(Reference())
	if err != nil {
		t.Fatal(err)
	}
	known := knownKeys(t)
	for _, table := range []string{"[[pool]] backend", "[[pool]] health", "[[service]] timeouts",
		"[pool.health] http", "[pool.health] tls", "[pool.health] grpc", "[pool.health] udp", "[pool.health] dns", "[pool.health] exec", "[bgp] peer", "[[bgp.peer]] bfd", "[cluster] health", "[cluster] flows", "[kubernetes] pool"} {
		if !known[table] {
			t.Errorf("the subtable %s is not known", table)
		}
		delete(known, table)
	}
	for _, s := range entries {
		for _, e := range s.keys {
			id := s.title + " " + e.key
			if !known[id] {
				t.Errorf("the reference documents %s twice, or there is no such key", id)
			}
			delete(known, id)
		}
	}
	for id := range known {
		t.Errorf("the reference says nothing of %s", id)
	}
}

// TestReferenceDefaults takes each key that the reference gives a default out
// of the examples, and then sets it to that default: that must be no
// difference.
func TestReferenceDefaults(t *testing.T) {
	sections, err := parseReference(Reference())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(uncomment(Reference())), "\n")
	parse := func(lines []string) *Config {
		c, err := Parse("fairlead.toml", []byte(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	checked := 0
	for _, s := range sections {
		for _, e := range s.keys {
			if e.required {
				without := slices.Clone(lines)
				without[e.line] = ""
				_, err := Parse("fairlead.toml", []byte(strings.Join(without, "\n")))
				if want := fmt.Sprintf("missing key %q in %s", e.key, s.title); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s %s is documented as required; without it: %v", s.title, e.key, err)
				}
				continue
			}
			without := slices.Clone(lines)
			without[e.line] = ""
			left := parse(without) // left out: must load
			if !e.literal {
				continue
			}
			with := slices.Clone(lines)
			with[e.line] = e.key + " = " + e.fallback
			if set := parse(with); !reflect.DeepEqual(left, set) {
				t.Errorf("%s %s = %s is not its default", s.title, e.key, e.fallback)
			}
			checked++
		}
	}
	if checked < 40 {
		t.Errorf("only %d defaults were checked", checked)
	}
}

// section is one table of the reference, entry one key of it.
type section struct {
	title, text string
	keys        []entry
}

type entry struct {
	key, text string
	example   string
	fallback  string // a TOML literal, or words
	literal   bool
	required  bool
	line      int // from 0
}

// parseReference reads the reference's comments: the comment above a table is
// about the table, the one above a key is about the key and ends in a line
// "Required." or "Default: VALUE.". Tables shown a second time are further
// examples.
func parseReference(ref []byte) ([]*section, error) {
	header := regexp.MustCompile(`^#?(\[.*\])$`)
	keyLine := regexp.MustCompile(`^#?([a-z0-9_]+) = (.*)$`)
	literal := regexp.MustCompile(`^(".*"|\[\]|[0-9]+|true|false)$`)
	var (
		out     []*section
		current *section
		comment []string
		seen    = make(map[string]bool)
	)
	for number, line := range strings.Split(string(ref), "\n") {
		if line == "" {
			comment = nil
			continue
		}
		if rest, is := strings.CutPrefix(line, "# "); is {
			comment = append(comment, rest)
			continue
		}
		if line == "#" {
			comment = append(comment, "")
			continue
		}
		if m := header.FindStringSubmatch(line); m != nil {
			current = nil
			if !seen[m[1]] {
				if len(comment) == 0 {
					return nil, fmt.Errorf("line %d: %s has no comment", number+1, m[1])
				}
				current = &section{title: m[1], text: strings.Join(comment, " ")}
				out = append(out, current)
				seen[m[1]] = true
			}
			comment = nil
			continue
		}
		m := keyLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d: %q is neither comment, table nor key", number+1, line)
		}
		if current == nil {
			continue // a further example
		}
		if len(comment) < 2 {
			return nil, fmt.Errorf("line %d: %s is not explained", number+1, m[1])
		}
		e := entry{key: m[1], example: m[2], line: number, text: strings.Join(comment[:len(comment)-1], " ")}
		last := comment[len(comment)-1]
		fallback, isDefault := strings.CutPrefix(last, "Default: ")
		switch {
		case last == "Required.":
			e.required = true
		case isDefault && strings.HasSuffix(fallback, "."):
			e.fallback = strings.TrimSuffix(fallback, ".")
			e.literal = literal.MatchString(e.fallback)
		default:
			return nil, fmt.Errorf("line %d: %s is neither required nor has it a default: %q", number+1, m[1], last)
		}
		current.keys = append(current.keys, e)
		comment = nil
	}
	return out, nil
}
