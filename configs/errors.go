package configs

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// Error is one thing that is wrong with a configuration file.
type Error struct {
	File    string
	Line    int // from 1
	Column  int // from 1, in characters; a tab is one
	Message string
}

// Error gives file:line:column: message, as compilers do.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors is everything that is wrong with a configuration file, in the order
// of the file. Parse and Load return it as their error.
type Errors []*Error

// Error gives one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// finding is an error at a byte offset of the source.
type finding struct {
	offset  int
	message string
}

// locate sorts findings by offset and gives them line and column.
func locate(file, src string, found []finding) Errors {
	sort.SliceStable(found, func(i, j int) bool { return found[i].offset < found[j].offset })
	errs := make(Errors, len(found))
	line, lineStart, pos := 1, 0, 0
	for i, f := range found {
		at := max(0, min(f.offset, len(src)))
		for {
			n := strings.IndexByte(src[pos:at], '\n')
			if n < 0 {
				break
			}
			pos += n + 1
			line, lineStart = line+1, pos
		}
		pos = at
		errs[i] = &Error{File: file, Line: line, Column: utf8.RuneCountInString(src[lineStart:at]) + 1, Message: f.message}
	}
	return errs
}
