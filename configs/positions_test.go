package configs

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// checkAgainst walks the decoded document and the tree of places together:
// they must have the same shape, every key must be spelt at its place, and the
// text of every value must decode to the value.
func checkAgainst(t *testing.T, src string, n *node, v any, path string) {
	t.Helper()
	if n == nil {
		t.Fatalf("%s has no place in\n%s", path, src)
	}
	if n.key < 0 || n.value < n.key && src[n.value] != '[' || n.end < n.value || n.end > len(src) {
		t.Fatalf("%s: key at %d, value from %d to %d of %d in\n%s", path, n.key, n.value, n.end, len(src), src)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) != len(n.children) {
			t.Fatalf("%s has %d keys and %q have places in\n%s", path, len(v), n.names, src)
		}
		for key, sub := range v {
			c := n.child(key)
			checkAgainst(t, src, c, sub, path+"."+key)
			s := &scanner{src: src, pos: c.key}
			if name, ok := s.keyName(); !ok || name != key {
				t.Fatalf("%s.%s: at its place is the key %q in\n%s", path, key, name, src)
			}
		}
		return
	case []map[string]any:
		if len(v) != len(n.elements) {
			t.Fatalf("%s has %d tables, %d have places in\n%s", path, len(v), len(n.elements), src)
		}
		for i := range v {
			checkAgainst(t, src, n.element(i), v[i], path+"[]")
			if !strings.HasPrefix(src[n.element(i).value:], "[") {
				t.Fatalf("%s: no header at its place in\n%s", path, src)
			}
		}
		return
	case []any:
		if len(v) != len(n.elements) {
			t.Fatalf("%s has %d elements, %d have places in\n%s", path, len(v), len(n.elements), src)
		}
		for i := range v {
			checkAgainst(t, src, n.element(i), v[i], path+"[]")
		}
	}
	var again map[string]any
	text := src[n.value:n.end]
	if _, err := toml.Decode("x = "+text, &again); err != nil {
		t.Fatalf("%s: its text %q does not decode: %v", path, text, err)
	}
	if !equalValues(again["x"], v) {
		t.Fatalf("%s: its text %q is %v, the value is %v", path, text, again["x"], v)
	}
}

// equalValues compares decoded values; a NaN equals a NaN.
func equalValues(a, b any) bool {
	if x, ok := a.(float64); ok {
		if y, ok := b.(float64); ok && math.IsNaN(x) && math.IsNaN(y) {
			return true
		}
	}
	if x, ok := a.([]any); ok {
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equalValues(x[i], y[i]) {
				return false
			}
		}
		return true
	}
	if x, ok := a.(map[string]any); ok {
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k := range x {
			if !equalValues(x[k], y[k]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// placed follows a key of MetaData.Keys, which leaves out the indexes of
// arrays: some element must have it.
func placed(n *node, key []string) bool {
	if n == nil {
		return false
	}
	if len(key) == 0 {
		return true
	}
	if placed(n.child(key[0]), key[1:]) {
		return true
	}
	for _, e := range n.elements {
		if placed(e, key) {
			return true
		}
	}
	return false
}

// checkPositions compares a scan with what the TOML parser says of the source.
func checkPositions(t *testing.T, input string) {
	t.Helper()
	src := stripBOM(input)
	root, stop := scanPositions(src)
	var document map[string]any
	if stop != nil && stop.tooDeep {
		return // the parser is never given it
	}
	meta, err := toml.Decode(input, &document)
	if err != nil {
		return
	}
	if stop != nil {
		t.Fatalf("the scan stopped at %d of\n%s", stop.offset, src)
	}
	for key, v := range document {
		checkAgainst(t, src, root.child(key), v, key)
	}
	if len(document) != len(root.children) {
		t.Fatalf("the document has %d keys, %q have places in\n%s", len(document), root.names, src)
	}
	for _, key := range meta.Keys() {
		if !placed(root, key) {
			t.Fatalf("key %q of the parser has no place in\n%s", key, src)
		}
	}
}

// positionSamples are documents of every construct of the syntax.
var positionSamples = []string{
	"",
	"# only a comment",
	"a = 1",
	"\xef\xbb\xbfa = 1\nb = 2\n",
	"a = 1\r\n[t]\r\nb = 2 # comment\r\n",
	"a.b.c = 1\na.b.d = 2\na . \"e f\" . 'g.h' = 3\n",
	"\"\" = 1\n'' . x = 2",
	"\"\\u00e9\\t\\x41\\U0001F600\\e\" = 1",
	"s = \"a \\\" ] } # b\"\nt = 'c:\\' # x\nu = \"\"\nv = ''\n",
	"s = \"\"\"\na = 1\n[x]\n\"quoted\" \"\" \\\"\"\" \"\"\"\"\"\nt = '''\n]'' \\'''''\nu = \"\"\"\"\"\"\nw = 3",
	"s = \"\"\"a \\\n   b\"\"\"",
	"n = [ 1, -2_000, 0x1f, 0o17, 0b11, 1.5e3, inf, -nan, true, 1979-05-27 07:32:00 , 07:32:00, ]\nm = 1",
	"a = [\n  [1, 2], # one\n  [\"]\", '}'],\n  [],\n]\nb = 2",
	"p = { x = 1, y.z = [ {a = 1}, {b = { c = 2 }} ], \"q r\" = '}' }\nq = {}\n",
	"p = {\n x = 1, # one\n y = 2,\n}\n",
	"p = [{a=1},{a=2}]",
	"[[s]]\nname = 'a'\n[s.t]\nx = 1\n[[s.b]]\ny = 1\n[[s.b]]\ny = 2\n[[s]]\nname = 'b'\n[s.t]\nx = 2\n",
	"[a.b.c]\nx = 1\n[a]\ny = 2\n[a.b]\nz = 3\n",
	"[ a . 'b.c' ]\nx = 1\n[[ d ]] # comment\n[[d]]",
	"[[a]]\n[a.b]\nc.d = 1\n[[a.b.e]]\nf = 1\n",
	"d = 1979-05-27 # a date\ne = 1979-05-27T07:32:00Z",
	"a1=1\na2=1\na3=1\na4=1\na5=1\na6=1\na7=1\na8=1\na9=1\na10=1\na11=1\na12=1\na13=1\na14=1\na15=1\na16=1\na17=1\na18=1\n",
	"a = [1\n", "a = {", "[a", "[[a]", "a", "a =", "= 1", "a = \"x", "a = '''x", "a = 1 b = 2", "a = \"\\", "\"\\u12\" = 1", "[a]]\n",
	strings.Repeat("[", 40), "a = " + strings.Repeat("[", 31) + strings.Repeat("]", 31), strings.Repeat("a.", 31) + "a = 1",
}

func TestPositionsAgreeWithTheParser(t *testing.T) {
	for _, src := range positionSamples {
		checkPositions(t, src)
	}
	checkPositions(t, string(Reference()))
	checkPositions(t, string(uncomment(Reference())))
}

// TestPositionsOf names places by line and column.
func TestPositionsOf(t *testing.T) {
	const src = "# é\n[[service]]\n\tname = \"é\" # x\n[[service]]\nname = 'b'\nranges = [ 'x',\n 'yy' ]\nt = { 'a b' = 1 }\n[service.timeouts]\nudp.x = 3\n"
	root, stop := scanPositions(src)
	if stop != nil {
		t.Fatal("the scan stopped")
	}
	second := root.child("service").element(1)
	for _, c := range []struct {
		what         string
		offset       int
		line, column int
	}{
		{"first service", root.child("service").element(0).value, 2, 1},
		{"its name's key", root.child("service").element(0).child("name").key, 3, 2},
		{"its name's value", root.child("service").element(0).child("name").value, 3, 9},
		{"second service", second.value, 4, 1},
		{"second element", second.child("ranges").element(1).value, 7, 2},
		{"inline key", second.child("t").child("a b").key, 8, 7},
		{"subtable", second.child("timeouts").value, 9, 1},
		{"dotted key", second.child("timeouts").child("udp").child("x").key, 10, 5},
		{"dotted value", second.child("timeouts").child("udp").child("x").value, 10, 9},
	} {
		got := locate("f", src, []finding{{c.offset, ""}})[0]
		if got.Line != c.line || got.Column != c.column {
			t.Errorf("%s is at %d:%d, want %d:%d", c.what, got.Line, got.Column, c.line, c.column)
		}
	}
	if root.child("nothing").child("x").element(3).child("y") != nil {
		t.Error("what is not there has a place")
	}
}

func FuzzPositions(f *testing.F) {
	for _, src := range positionSamples {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1<<16 {
			return
		}
		defer func() {
			// The parser's own failures are decode's to catch; here they
			// only mean that there is nothing to compare with.
			if p := recover(); p != nil {
				if text, ok := p.(string); ok && strings.HasPrefix(text, "BUG") {
					return
				}
				panic(p)
			}
		}()
		checkPositions(t, src)
	})
}
