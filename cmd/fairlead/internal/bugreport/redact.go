package bugreport

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

const redacted = "(redacted)"

var (
	// secretName is in the names of keys whose values nobody else is to know:
	// secrets, the seed with which a client could choose its backend, and what
	// health checks send and run, which may have secrets in it.
	secretName = regexp.MustCompile(`(?i)seed|secret|passw|passphrase|token|credential|authorization|private|^exec$|^send$|^community_string$`)
	// secretKey is where such a key is given a value in a line.
	secretKey = regexp.MustCompile(`(?i)(\b[\w-]*(?:seed|secret|passw|passphrase|token|credential|authorization|private)[\w-]*|\bexec|\bsend)["']?\s*[=:]`)
	// secretWords are in every text that has such a key, or a block: most have
	// none of them.
	secretWords = []string{"seed", "secret", "passw", "passphrase", "token", "credential", "authorization", "private", "exec", "send", "-----begin"}
	// pathKey is the name of a file, which says nothing of what is in it.
	pathKey = regexp.MustCompile(`(?i)_file["']?\s*[=:]$`)
	// block is a PEM block.
	block = regexp.MustCompile(`(?s)-----BEGIN [^-]*-----.*?(-----END [^-]*-----|$)`)
)

// Redact takes secrets out of a file: out of JSON by its keys, and out of the
// lines of texts, those that JSON has in its strings too.
func Redact(content []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) == nil && !decoder.More() {
		if text, err := json.MarshalIndent(redactValue(value), "", "  "); err == nil {
			return append(text, '\n')
		}
	}
	return []byte(redactText(string(content)))
}

func redactValue(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if secretName.MatchString(key) && !strings.HasSuffix(key, "_file") && holds(inner) {
				value[key] = redacted
			} else {
				value[key] = redactValue(inner)
			}
		}
	case []any:
		for i := range value {
			value[i] = redactValue(value[i])
		}
	case string:
		return redactText(value)
	}
	return value
}

// holds reports whether a value can have a secret in it: a text or a list of
// texts, not a number or an object of its own.
func holds(value any) bool {
	switch value := value.(type) {
	case string:
		return value != ""
	case []any:
		return len(value) > 0
	}
	return false
}

// redactText takes the values of secret keys out of a text, from the key to the
// end of its line, and to the end of a value of several lines.
func redactText(text string) string {
	lower := strings.ToLower(text)
	if !slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(lower, word) }) {
		return text
	}
	text = block.ReplaceAllString(text, redacted)
	var out strings.Builder
	until := "" // what ends a value of several lines
	for line := range strings.Lines(text) {
		if until != "" {
			if strings.Contains(line, until) {
				until = ""
			}
			continue
		}
		at := secretAt(line)
		if at < 0 {
			out.WriteString(line)
			continue
		}
		out.WriteString(line[:at] + ` "` + redacted + "\"\n")
		until = open(line[at:])
	}
	return out.String()
}

// secretAt is where the value of a secret key begins in a line, -1 when there
// is none.
func secretAt(line string) int {
	for _, m := range secretKey.FindAllStringIndex(line, -1) {
		if !pathKey.MatchString(line[m[0]:m[1]]) {
			return m[1]
		}
	}
	return -1
}

// open gives what ends a value that does not end in its line.
func open(value string) string {
	value = strings.TrimSpace(value)
	for _, quote := range []string{`"""`, `'''`} {
		if strings.HasPrefix(value, quote) && !strings.Contains(value[3:], quote) {
			return quote
		}
	}
	if strings.HasPrefix(value, "[") && !strings.Contains(value, "]") {
		return "]"
	}
	return ""
}
