package configs

import (
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep arrays, inline tables and dotted keys may nest. The
// schema needs four; the bound keeps a hostile file from exhausting the stack
// of the TOML parser, which recurses.
const maxDepth = 32

// node is the place of one key, table or array element in the source. The tree
// of nodes has the shape of the decoded document: a table's keys are its
// children, an array's elements are its elements, and [[header]] tables are
// elements of their array. All places are byte offsets.
type node struct {
	key   int // first byte of the key; for an array element, of the element
	value int // first byte of the value, or the '[' of the header that made the table
	end   int // one past the last byte of the value or of the header

	names    []string // of children, in the order they first appear
	children []*node
	byName   map[string]*node // used from manyChildren children on
	elements []*node
}

const manyChildren = 16

// child finds the node of a key, or nil. It may be called on nil.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	if n.byName != nil {
		return n.byName[name]
	}
	for i, have := range n.names {
		if have == name {
			return n.children[i]
		}
	}
	return nil
}

// element finds the node of an array element, or nil. It may be called on nil.
func (n *node) element(i int) *node {
	if n == nil || i < 0 || i >= len(n.elements) {
		return nil
	}
	return n.elements[i]
}

// add makes the node of a key that first appears at offset at, or returns the
// one that is there.
func (n *node) add(name string, at int) *node {
	if c := n.child(name); c != nil {
		return c
	}
	c := &node{key: at, value: at, end: at}
	n.names = append(n.names, name)
	n.children = append(n.children, c)
	if n.byName != nil {
		n.byName[name] = c
	} else if len(n.names) == manyChildren {
		n.byName = make(map[string]*node, 2*manyChildren)
		for i, have := range n.names {
			n.byName[have] = n.children[i]
		}
	}
	return c
}

// last is the table that a header or key path leads into: an array stands for
// its last element.
func (n *node) last() *node {
	for len(n.elements) > 0 {
		n = n.elements[len(n.elements)-1]
	}
	return n
}

// scanStop says why and where a scan ended early.
type scanStop struct {
	offset  int
	tooDeep bool // otherwise: not TOML, which the TOML parser words better
}

// scanPositions finds the place of every key, table and array element. It
// reads just enough of the syntax (TOML 1.0, and the line breaks and trailing
// commas in inline tables of 1.1) to know where things begin and end, and
// checks nothing else: for every document that the TOML parser accepts the
// tree is complete; for others it ends where reading became impossible.
func scanPositions(src string) (root *node, stop *scanStop) {
	s := &scanner{src: src}
	root = &node{}
	return root, s.document(root)
}

// scanner reads the source from pos on.
type scanner struct {
	src string
	pos int
}

// keyPart is one part of a dotted key.
type keyPart struct {
	name string
	at   int
}

func (s *scanner) notTOML() *scanStop { return &scanStop{offset: s.pos} }

func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) accept(c byte) bool {
	if s.pos < len(s.src) && s.src[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) skipSpace() {
	for s.pos < len(s.src) && (s.src[s.pos] == ' ' || s.src[s.pos] == '\t') {
		s.pos++
	}
}

func (s *scanner) skipComment() {
	if s.peek() != '#' {
		return
	}
	if i := strings.IndexByte(s.src[s.pos:], '\n'); i >= 0 {
		s.pos += i
	} else {
		s.pos = len(s.src)
	}
}

// skipLines skips white space, line breaks and comments.
func (s *scanner) skipLines() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		case '#':
			s.skipComment()
		default:
			return
		}
	}
}

// document reads all of the source: headers, and keys with their values.
func (s *scanner) document(root *node) *scanStop {
	table := root
	for {
		s.skipLines()
		if s.pos >= len(s.src) {
			return nil
		}
		var stop *scanStop
		if s.peek() == '[' {
			table, stop = s.header(root)
		} else {
			stop = s.keyValue(table, 0)
		}
		if stop != nil {
			return stop
		}
		s.skipSpace()
		s.skipComment()
		if s.pos < len(s.src) && s.peek() != '\n' && s.peek() != '\r' {
			return s.notTOML()
		}
	}
}

// header reads [a.b] or [[a.b]] and returns the node of the table it opens.
func (s *scanner) header(root *node) (*node, *scanStop) {
	start := s.pos
	s.pos++
	array := s.accept('[')
	s.skipSpace()
	parts, stop := s.key()
	if stop != nil {
		return nil, stop
	}
	if !s.accept(']') || array && !s.accept(']') {
		return nil, s.notTOML()
	}
	parent := root
	for _, p := range parts[:len(parts)-1] {
		parent = parent.add(p.name, p.at).last()
	}
	p := parts[len(parts)-1]
	n := parent.add(p.name, p.at)
	if array {
		table := &node{key: p.at, value: start, end: s.pos}
		n.elements = append(n.elements, table)
		return table, nil
	}
	n.key, n.value, n.end = p.at, start, s.pos
	return n, nil
}

// keyValue reads a.b = value into the table.
func (s *scanner) keyValue(table *node, depth int) *scanStop {
	parts, stop := s.key()
	if stop != nil {
		return stop
	}
	if !s.accept('=') {
		return s.notTOML()
	}
	s.skipSpace()
	for _, p := range parts[:len(parts)-1] {
		table = table.add(p.name, p.at).last()
	}
	p := parts[len(parts)-1]
	n := table.add(p.name, p.at)
	n.key = p.at
	return s.readValue(n, depth)
}

// key reads a dotted key and the white space after it.
func (s *scanner) key() ([]keyPart, *scanStop) {
	var parts []keyPart
	for {
		s.skipSpace()
		at := s.pos
		name, ok := s.keyName()
		if !ok {
			return nil, s.notTOML()
		}
		parts = append(parts, keyPart{name, at})
		if len(parts) > maxDepth {
			return nil, &scanStop{offset: at, tooDeep: true}
		}
		s.skipSpace()
		if !s.accept('.') {
			return parts, nil
		}
	}
}

// keyName reads one part of a key: bare, "quoted" or 'literal'.
func (s *scanner) keyName() (string, bool) {
	start := s.pos
	switch s.peek() {
	case '"':
		if !s.basicString() {
			return "", false
		}
		return unescape(s.src[start+1 : s.pos-1]), true
	case '\'':
		if !s.literalString() {
			return "", false
		}
		return s.src[start+1 : s.pos-1], true
	}
	for s.pos < len(s.src) && isBareKeyByte(s.src[s.pos]) {
		s.pos++
	}
	return s.src[start:s.pos], s.pos > start
}

func isBareKeyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// readValue reads the value of n and records where it is.
func (s *scanner) readValue(n *node, depth int) *scanStop {
	n.value = s.pos
	ok := true
	var stop *scanStop
	switch c := s.peek(); {
	case (c == '[' || c == '{') && depth >= maxDepth:
		return &scanStop{offset: s.pos, tooDeep: true}
	case c == '[':
		stop = s.array(n, depth+1)
	case c == '{':
		stop = s.inlineTable(n, depth+1)
	case strings.HasPrefix(s.src[s.pos:], `"""`):
		ok = s.multilineString('"')
	case strings.HasPrefix(s.src[s.pos:], `'''`):
		ok = s.multilineString('\'')
	case c == '"':
		ok = s.basicString()
	case c == '\'':
		ok = s.literalString()
	default:
		ok = s.bareValue()
	}
	if stop == nil && !ok {
		stop = s.notTOML()
	}
	n.end = s.pos
	return stop
}

// array reads [ value, ... ].
func (s *scanner) array(n *node, depth int) *scanStop {
	s.pos++
	for {
		s.skipLines()
		if s.accept(']') {
			return nil
		}
		e := &node{key: s.pos}
		n.elements = append(n.elements, e)
		if stop := s.readValue(e, depth); stop != nil {
			return stop
		}
		s.skipLines()
		if s.accept(',') {
			continue
		}
		if !s.accept(']') {
			return s.notTOML()
		}
		return nil
	}
}

// inlineTable reads { key = value, ... }.
func (s *scanner) inlineTable(n *node, depth int) *scanStop {
	s.pos++
	for {
		s.skipLines()
		if s.accept('}') {
			return nil
		}
		if stop := s.keyValue(n, depth); stop != nil {
			return stop
		}
		s.skipLines()
		if s.accept(',') {
			continue
		}
		if !s.accept('}') {
			return s.notTOML()
		}
		return nil
	}
}

// basicString reads "..." with its escapes, on one line.
func (s *scanner) basicString() bool {
	for i := s.pos + 1; i < len(s.src); i++ {
		switch s.src[i] {
		case '\\':
			i++
		case '\n':
			return false
		case '"':
			s.pos = i + 1
			return true
		}
	}
	return false
}

// literalString reads '...' on one line.
func (s *scanner) literalString() bool {
	i := strings.IndexAny(s.src[s.pos+1:], "'\n")
	if i < 0 || s.src[s.pos+1+i] == '\n' {
		return false
	}
	s.pos += i + 2
	return true
}

// multilineString reads a string between triple quotes. A run of more than
// three quotes at the end belongs to the string but for its last three.
func (s *scanner) multilineString(quote byte) bool {
	for i := s.pos + 3; i < len(s.src); i++ {
		switch s.src[i] {
		case '\\':
			if quote == '"' {
				i++
			}
		case quote:
			run := i
			for run < len(s.src) && s.src[run] == quote {
				run++
			}
			if run-i >= 3 {
				s.pos = run
				return true
			}
			i = run - 1
		}
	}
	return false
}

// bareValue reads a number, a boolean or a date: everything up to what may
// follow a value, less the white space before that.
func (s *scanner) bareValue() bool {
	rest := s.src[s.pos:]
	if i := strings.IndexAny(rest, ",]}#\r\n"); i >= 0 {
		rest = rest[:i]
	}
	rest = strings.TrimRight(rest, " \t")
	s.pos += len(rest)
	return rest != ""
}

// unescape undoes the escapes of a basic string. What is no escape stays as it
// is.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch c := text[i]; c {
		case 'b':
			b.WriteByte('\b')
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'f':
			b.WriteByte('\f')
		case 'r':
			b.WriteByte('\r')
		case 'e':
			b.WriteByte(0x1b)
		case 'x', 'u', 'U':
			digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			r, n := hexRune(text[i+1:], digits)
			b.WriteRune(r)
			i += n
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// hexRune reads up to the given number of hexadecimal digits.
func hexRune(text string, digits int) (r rune, n int) {
	var v uint32
	for n < digits && n < len(text) {
		d := strings.IndexByte("0123456789abcdef", text[n]|0x20)
		if d < 0 || d < 10 && text[n] != "0123456789"[d] {
			break
		}
		v = v<<4 | uint32(d)
		n++
	}
	if v > utf8.MaxRune {
		v = utf8.RuneError
	}
	return rune(v), n
}
