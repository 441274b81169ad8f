package configs

import (
	"strings"
)

// maxSelector is how many bytes a selector may have.
const maxSelector = 4096

// selector reads a selector of labels in the text form of Kubernetes.
func (t *table) selector(key string) string {
	text := t.text(key, "")
	if len(text) > maxSelector {
		t.refuse(key, "the selector has %d bytes; it may have %d", len(text), maxSelector)
		return ""
	}
	if wrong := badSelector(text); wrong != "" {
		t.refuse(key, `%q is no selector: %s; write it as "team=web,env!=test,tier in (a, b),!internal"`, text, wrong)
		return ""
	}
	return text
}

// badSelector says what is wrong with a selector: requirements, separated by
// commas, each of which is "key", "!key", "key=value", "key==value",
// "key!=value", "key in (values)" or "key notin (values)". The empty selector
// selects everything.
func badSelector(text string) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	for _, one := range splitRequirements(text) {
		if wrong := badRequirement(strings.TrimSpace(one)); wrong != "" {
			return wrong
		}
	}
	return ""
}

// splitRequirements splits at the commas that are outside of parentheses.
func splitRequirements(text string) (out []string) {
	depth, begin := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out, begin = append(out, text[begin:i]), i+1
			}
		}
	}
	return append(out, text[begin:])
}

func badRequirement(text string) string {
	if text == "" {
		return "there is nothing between two commas, or at an end"
	}
	if label, absent := strings.CutPrefix(text, "!"); absent {
		return badLabelKey(strings.TrimSpace(label))
	}
	if i := strings.IndexAny(text, "=!"); i >= 0 {
		label, value := strings.TrimSpace(text[:i]), ""
		switch rest := text[i:]; {
		case strings.HasPrefix(rest, "=="), strings.HasPrefix(rest, "!="):
			value = strings.TrimSpace(rest[2:])
		case rest[0] == '=':
			value = strings.TrimSpace(rest[1:])
		default:
			return `"!" is before a key, or before "="`
		}
		if wrong := badLabelKey(label); wrong != "" {
			return wrong
		}
		return badLabelValue(value)
	}
	open := strings.IndexByte(text, '(')
	if open < 0 {
		return badLabelKey(text)
	}
	words := strings.Fields(text[:open])
	if len(words) != 2 || words[1] != "in" && words[1] != "notin" {
		return `what is in parentheses follows "in" or "notin"`
	}
	inner, closed := strings.CutSuffix(text[open+1:], ")")
	if !closed || strings.ContainsAny(inner, "()") {
		return "parentheses do not match"
	}
	if wrong := badLabelKey(words[0]); wrong != "" {
		return wrong
	}
	for value := range strings.SplitSeq(inner, ",") {
		if wrong := badLabelValue(strings.TrimSpace(value)); wrong != "" {
			return wrong
		}
	}
	return ""
}

func badLabelKey(text string) string {
	if !qualifiedName(text) {
		return `"` + text + `" is no key of a label`
	}
	return ""
}

func badLabelValue(text string) string {
	if !labelValue(text) {
		return `"` + text + `" is no value of a label`
	}
	return ""
}
