package configs

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// reader collects what is wrong while the document's tables are read.
type reader struct {
	found []finding
	hints int // comparisons left for suggestions
	// known, when not nil, is told every key that a table is asked for.
	known func(table, key string)

	partial bool     // the document is one of several: it is not judged as a whole
	objects bool     // it may have objects alone
	shared  bool     // and only such that all nodes of a cluster have the same
	origins *origins // of the state that was read

	tolerant bool      // unknown keys are no errors
	ignored  []finding // but these
}

// hintBudget bounds the work spent on suggestions, so that a file full of
// mistakes is refused in the time it takes to read it.
const hintBudget = 200_000

func (r *reader) report(offset int, format string, args ...any) {
	r.found = append(r.found, finding{offset, fmt.Sprintf(format, args...)})
}

// suggest is suggest within the budget.
func (r *reader) suggest(typed string, known []string, quote string) string {
	if r.hints -= len(known); r.hints < 0 {
		return ""
	}
	return suggest(typed, known, quote)
}

// table is one table of the document while it is being read. The keys it is
// asked for are the keys it may have; finish refuses all others.
type table struct {
	r     *reader
	title string // as in the file: [node], [[service]], [service.timeouts]
	data  map[string]any
	at    *node
	asked []string
	bad   bool // some value of it was refused
}

// position is where the table begins.
func (t *table) position() int {
	if t.at == nil {
		return 0
	}
	return t.at.value
}

// valueAt is where the value of a key is, or the table itself when the key is
// not in it. A dotted name leads into subtables.
func (t *table) valueAt(name string) int {
	n := t.at
	for part := range strings.SplitSeq(name, ".") {
		c := n.child(part)
		if c == nil {
			break
		}
		n = c
	}
	if n == nil {
		return 0
	}
	return n.value
}

// refuse reports what is wrong with a key's value.
func (t *table) refuse(key, format string, args ...any) {
	t.bad = true
	t.r.report(t.valueAt(key), "%s: %s", key, fmt.Sprintf(format, args...))
}

// refuseElement reports what is wrong with one element of a key's array.
func (t *table) refuseElement(key string, i int, format string, args ...any) {
	t.bad = true
	at := t.valueAt(key)
	if e := t.at.child(key).element(i); e != nil {
		at = e.value
	}
	t.r.report(at, "%s: %s", key, fmt.Sprintf(format, args...))
}

// get gives the value of a key.
func (t *table) get(key string) (any, bool) {
	t.asked = append(t.asked, key)
	if t.r.known != nil {
		t.r.known(t.title, key)
	}
	v, ok := t.data[key]
	return v, ok
}

// require reports a key that is not there.
func (t *table) require(key string) bool {
	if _, ok := t.data[key]; ok {
		return true
	}
	t.bad = true
	t.r.report(t.position(), "missing key %q in %s", key, t.title)
	return false
}

// finish reports the keys that the table was not asked for.
func (t *table) finish() {
	var unknown []string
	for key := range t.data {
		if !slices.Contains(t.asked, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		at := t.position()
		if n := t.at.child(key); n != nil {
			at = n.key
		}
		if t.r.tolerant {
			where := t.title
			if where == "" {
				where = "the document"
			}
			t.r.ignored = append(t.r.ignored, finding{at, fmt.Sprintf("%q in %s", key, where)})
			continue
		}
		hint := t.r.suggest(key, t.asked, `"%s"`)
		switch {
		case t.title != "":
			t.r.report(at, "unknown key %q in %s%s", key, t.title, hint)
		case isTable(t.data[key]):
			t.r.report(at, "unknown table %q%s", key, hint)
		default:
			t.r.report(at, "unknown key %q before the first table%s", key, hint)
		}
	}
}

func isTable(v any) bool {
	switch v.(type) {
	case map[string]any, []map[string]any:
		return true
	}
	return false
}

// kind names the type of a value.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a floating-point number"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	}
	return fmt.Sprintf("a %T", v)
}

// sub gives the table under a key, empty when it is not there.
func (t *table) sub(key, title string) *table {
	v, there := t.get(key)
	sub := &table{r: t.r, title: title, at: t.at.child(key)}
	switch v := v.(type) {
	case map[string]any:
		sub.data = v
	case []map[string]any:
		t.refuse(key, "is given once, as %s, and is no list", title)
	default:
		if there {
			t.refuse(key, "expected a table, found %s", kind(v))
		}
	}
	return sub
}

// list gives the tables of an array of tables.
func (t *table) list(key, title string) []*table {
	v, there := t.get(key)
	at := t.at.child(key)
	var out []*table
	switch v := v.(type) {
	case []map[string]any:
		out = make([]*table, len(v))
		for i := range v {
			out[i] = &table{r: t.r, title: title, data: v[i], at: at.element(i)}
		}
	case []any:
		for i := range v {
			data, ok := v[i].(map[string]any)
			if !ok {
				t.refuseElement(key, i, "expected a table, found %s", kind(v[i]))
				continue
			}
			out = append(out, &table{r: t.r, title: title, data: data, at: at.element(i)})
		}
	case map[string]any:
		t.refuse(key, "is a list: write %s", title)
	default:
		if there {
			t.refuse(key, "expected tables, written %s, found %s", title, kind(v))
		}
	}
	return out
}

// text gives a string.
func (t *table) text(key, fallback string) string {
	v, there := t.get(key)
	if !there {
		return fallback
	}
	s, ok := v.(string)
	if !ok {
		t.refuse(key, "expected a string, found %s", kind(v))
		return fallback
	}
	return s
}

// flag gives a boolean.
func (t *table) flag(key string, fallback bool) bool {
	v, there := t.get(key)
	if !there {
		return fallback
	}
	b, ok := v.(bool)
	if !ok {
		t.refuse(key, "expected true or false, found %s", kind(v))
		return fallback
	}
	return b
}

// integer gives an integer from least to most.
func (t *table) integer(key string, fallback, least, most int) int {
	v, there := t.get(key)
	if !there {
		return fallback
	}
	n, ok := v.(int64)
	if !ok {
		t.refuse(key, "expected an integer, found %s", kind(v))
		return fallback
	}
	if n < int64(least) || n > int64(most) {
		t.refuse(key, "%d is out of range; it must be %d to %d", n, least, most)
		return fallback
	}
	return int(n)
}

// countOrAuto gives an integer from 1 to most, or 0 for "auto".
func (t *table) countOrAuto(key string, fallback, most int) int {
	if v, _ := t.data[key].(string); v == "auto" {
		t.get(key)
		return 0
	}
	if v, there := t.data[key]; there {
		if _, ok := v.(int64); !ok {
			t.get(key)
			t.refuse(key, `expected an integer or "auto", found %s`, literal(v))
			return fallback
		}
	}
	return t.integer(key, fallback, 1, most)
}

// literal shows a string as it is written, and of other values the type.
func literal(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return kind(v)
}

// duration gives a duration from least to most that is a whole number of
// units.
func (t *table) duration(key string, fallback, least, most, unit time.Duration) time.Duration {
	v, there := t.get(key)
	if !there {
		return fallback
	}
	s, ok := v.(string)
	if !ok {
		switch v.(type) {
		case int64, float64:
			t.refuse(key, `a duration is a string with a unit, such as "%vs" or "%vms", not a number`, v, v)
		default:
			t.refuse(key, `expected a duration such as "30s", found %s`, kind(v))
		}
		return fallback
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		t.refuse(key, `%q is not a duration; write it as "500ms", "30s", "5m" or "1h30m"`, s)
		return fallback
	case d < least || d > most:
		t.refuse(key, "%s is out of range; it must be %s to %s", s, shortDuration(least), shortDuration(most))
		return fallback
	case d%unit != 0:
		t.refuse(key, "%s is not a whole number of %s", s, unitNames[unit])
		return fallback
	}
	return d
}

var unitNames = map[time.Duration]string{time.Millisecond: "milliseconds", time.Microsecond: "microseconds", time.Second: "seconds"}

// shortDuration writes a duration without the zero minutes and seconds that
// time.Duration adds.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// choice gives one of a set of words.
func choice[T ~string](t *table, key string, fallback T, choices ...T) T {
	v, there := t.get(key)
	if !there {
		return fallback
	}
	s, ok := v.(string)
	if !ok {
		t.refuse(key, "expected a string, found %s", kind(v))
		return fallback
	}
	words := make([]string, len(choices))
	for i, c := range choices {
		if s == string(c) {
			return c
		}
		words[i] = string(c)
	}
	t.refuse(key, "%q is none of %s%s", s, quoted(words), t.r.suggest(s, words, `"%s"`))
	return fallback
}

// quoted lists words in quotes.
func quoted(words []string) string {
	return `"` + strings.Join(words, `", "`) + `"`
}
