package configs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
)

// MaxFileSize is the largest configuration file in bytes. Ten thousand
// services with ten backends each are about 6 MiB.
const MaxFileSize = 64 << 20

// Load reads and checks the configuration file at path. When the file gives
// the node no name, it is named after the host. What is wrong with the
// content is returned as Errors, everything at once.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	cfg, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	if cfg.Node.Name == "" {
		if cfg.Node.Name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("name the node after the host: %w", err)
		}
	}
	return cfg, nil
}

// readFile reads a file, but not without end: a pipe or a device may be named.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFileSize+1))
}

// Parse checks a configuration; name is the file's name in messages. The
// result depends on nothing but the data. The error, if any, is Errors.
func Parse(name string, data []byte) (*Config, error) {
	r := &reader{hints: hintBudget}
	return r.parse(name, data)
}

func (r *reader) parse(name string, data []byte) (*Config, error) {
	if len(data) > MaxFileSize {
		return nil, Errors{{File: name, Line: 1, Column: 1, Message: fmt.Sprintf("the file is larger than %d MiB", MaxFileSize>>20)}}
	}
	src := stripBOM(string(data))
	at, stop := scanPositions(src)
	if stop != nil && stop.tooDeep {
		r.report(stop.offset, "nested more than %d deep", maxDepth)
		return nil, locate(name, src, r.found)
	}
	document, err := decode(string(data))
	if err != nil {
		var syntax toml.ParseError
		if !errors.As(err, &syntax) {
			syntax = toml.ParseError{Message: err.Error()}
		}
		r.report(syntaxOffset(src, syntax.Position), "%s", syntax.Message)
		return nil, locate(name, src, r.found)
	}
	cfg := r.config(&table{r: r, data: document, at: at})
	if len(r.found) > 0 {
		return nil, locate(name, src, r.found)
	}
	return cfg, nil
}

// syntaxOffset is where a syntax error is. The parser counts the white space
// before the offending character in.
func syntaxOffset(src string, p toml.Position) int {
	at := max(0, min(p.Start, len(src)))
	for n := p.Len; n > 1 && at < len(src) && (src[at] == ' ' || src[at] == '\t'); n-- {
		at++
	}
	return at
}

// stripBOM leaves out the byte order marks that the TOML parser leaves out, so
// that its offsets are ours.
func stripBOM(src string) string {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff", "\xef\xbb\xbf"} {
		if rest, found := strings.CutPrefix(src, mark); found {
			return rest
		}
	}
	return src
}

// decode parses TOML. The parser panics when it finds a bug of its own; a
// reload must survive even that.
func decode(src string) (document map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the TOML parser failed: %v", p)
		}
	}()
	_, err = toml.Decode(src, &document)
	return document, err
}
