package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// mostDetails is how many things an answer says that are wrong with a body.
const mostDetails = 20

// decodeJSON decodes a body into v. It takes exactly what v's type has: keys as
// they are spelled there, each once, values of the right type and within the
// bounds of their tags, and nothing after the one value. Everything that is
// wrong is said, with its place; v means nothing then.
func decodeJSON(data []byte, v reflect.Value) error {
	if !utf8.Valid(data) {
		return Errorf(BadRequest, "the body is not UTF-8")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return Errorf(BadRequest, "the body is empty; it is to be JSON")
	}
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		e := Errorf(BadRequest, "the body is not JSON")
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			e.Details = []Detail{detailAt(data, int(syntax.Offset)-1, syntax.Error())}
		}
		return e
	}
	c := checker{data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	c.decoder.UseNumber()
	c.value(v.Type(), "", "")
	if len(c.wrong) > 0 {
		return &Error{Code: BadRequest, Message: "the body is not what it is to be", Details: c.wrong}
	}
	if err := json.Unmarshal(data, v.Addr().Interface()); err != nil {
		return Errorf(BadRequest, "the body is not what it is to be: %v", err)
	}
	return nil
}

// detailAt gives a message the line and column of an offset.
func detailAt(data []byte, offset int, message string) Detail {
	before := data[:max(0, min(offset, len(data)))]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return Detail{Line: bytes.Count(before, []byte{'\n'}) + 1, Column: utf8.RuneCount(line) + 1, Message: message}
}

// checker compares a document, which is well-formed, with a type.
type checker struct {
	data    []byte
	decoder *json.Decoder
	wrong   []Detail
}

// next takes the next token; at is where it begins.
func (c *checker) next() (token json.Token, at int) {
	at = int(c.decoder.InputOffset())
	for at < len(c.data) && strings.IndexByte(" \t\r\n,:", c.data[at]) >= 0 {
		at++
	}
	token, _ = c.decoder.Token()
	return token, at
}

// refuse notes what is wrong with the value of a key.
func (c *checker) refuse(at int, key, format string, args ...any) {
	if len(c.wrong) == mostDetails {
		return
	}
	message := fmt.Sprintf(format, args...)
	if key != "" {
		message = key + ": " + message
	}
	c.wrong = append(c.wrong, detailAt(c.data, at, message))
}

// skip passes over the rest of a value that has begun with a token.
func (c *checker) skip(token json.Token) {
	for depth := depthOf(token); depth > 0; {
		token, _ = c.next()
		depth += depthOf(token)
	}
}

func depthOf(token json.Token) int {
	switch token {
	case json.Delim('{'), json.Delim('['):
		return 1
	case json.Delim('}'), json.Delim(']'):
		return -1
	}
	return 0
}

// value compares the next value with a type. key is its name in messages.
func (c *checker) value(t reflect.Type, tag reflect.StructTag, key string) {
	token, at := c.next()
	if t.Kind() == reflect.Pointer {
		if token == nil {
			return
		}
		t = t.Elem()
	}
	made := reflect.New(t).Interface()
	_, ownJSON := made.(json.Unmarshaler)
	text, isText := made.(encoding.TextUnmarshaler)
	switch {
	case isText && !ownJSON:
		c.text(token, at, text, tag, key)
	case ownJSON || t.Kind() == reflect.Interface:
		c.skip(token)
	case t.Kind() == reflect.Struct && token == json.Delim('{'):
		c.object(t, at, key)
	case t.Kind() == reflect.Map && token == json.Delim('{'):
		for c.decoder.More() {
			name, _ := c.next()
			c.value(t.Elem(), "", within(key, fmt.Sprint(name)))
		}
		c.next()
	case t.Kind() == reflect.Slice && token == json.Delim('['):
		for i := 0; c.decoder.More(); i++ {
			c.value(t.Elem(), tag, fmt.Sprintf("%s[%d]", key, i))
		}
		c.next()
	default:
		c.scalar(token, at, t, tag, key)
	}
}

// text checks a value that is written as a string of its own form.
func (c *checker) text(token json.Token, at int, into encoding.TextUnmarshaler, tag reflect.StructTag, key string) {
	s, is := token.(string)
	if !is {
		c.refuse(at, key, "expected a string, found %s", kindOf(token))
		c.skip(token)
		return
	}
	v := reflect.ValueOf(into).Elem()
	if err := into.UnmarshalText([]byte(s)); err != nil {
		c.refuse(at, key, "%s", sayWrong(s, v.Type(), err))
	} else if wrong := outOfBounds(v, tag); wrong != "" {
		c.refuse(at, key, "%s", wrong)
	}
}

// scalar checks a string, a boolean or a number, and refuses what is of another
// kind than its type.
func (c *checker) scalar(token json.Token, at int, t reflect.Type, tag reflect.StructTag, key string) {
	v := reflect.New(t).Elem()
	want := wanted(t)
	wrong := fmt.Sprintf("expected %s, found %s", want, kindOf(token))
	switch token := token.(type) {
	case string:
		if want == "a string" {
			v.SetString(token)
			c.bounds(v, at, tag, key)
			return
		}
	case bool:
		if want == "true or false" {
			return
		}
	case json.Number:
		if want == "an integer" || want == "a number" {
			if parseValue(token.String(), v) == "" {
				c.bounds(v, at, tag, key)
				return
			}
			wrong = fmt.Sprintf("expected %s that fits here, found %v", want, token)
		}
	}
	c.refuse(at, key, "%s", wrong)
	c.skip(token)
}

func (c *checker) bounds(v reflect.Value, at int, tag reflect.StructTag, key string) {
	if wrong := outOfBounds(v, tag); wrong != "" {
		c.refuse(at, key, "%s", wrong)
	}
}

// object compares an object's keys with a struct's fields.
func (c *checker) object(t reflect.Type, begin int, key string) {
	fields := jsonFields(t)
	seen := make(map[string]bool)
	for c.decoder.More() {
		token, at := c.next()
		name := fmt.Sprint(token)
		i := slices.IndexFunc(fields, func(f jsonField) bool { return f.name == name })
		switch {
		case i < 0:
			c.refuse(at, key, "unknown key %q", name)
			token, _ = c.next()
			c.skip(token)
		case seen[name]:
			c.refuse(at, key, "key %q is given twice", name)
			token, _ = c.next()
			c.skip(token)
		default:
			c.value(fields[i].of, fields[i].tag, within(key, name))
		}
		seen[name] = true
	}
	c.next()
	for _, f := range fields {
		if f.tag.Get("required") == "true" && !seen[f.name] {
			c.refuse(begin, key, "missing key %q", f.name)
		}
	}
}

func within(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// jsonField is a field as encoding/json sees it.
type jsonField struct {
	name     string
	of       reflect.Type
	tag      reflect.StructTag
	optional bool // left out when empty
}

// jsonFields are the fields of a struct, those of embedded structs among them.
func jsonFields(t reflect.Type) (list []jsonField) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			list = append(list, jsonFields(f.Type)...)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		list = append(list, jsonField{name: name, of: f.Type, tag: f.Tag, optional: optional})
	}
	return list
}

// wanted says what a value of a type is in JSON.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "an array"
	case reflect.Float64:
		return "a number"
	}
	return "an integer"
}

func kindOf(token json.Token) string {
	switch token := token.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return fmt.Sprint(token)
	case json.Number:
		return "a number"
	case json.Delim:
		if token == '[' {
			return "an array"
		}
	}
	return "an object"
}

// sayWrong says what is wrong with a text that does not become a value.
func sayWrong(text string, t reflect.Type, err error) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return fmt.Sprintf("%q is not an IP address", text)
	case reflect.TypeFor[netip.AddrPort]():
		return fmt.Sprintf("%q is not an IP address with a port, such as 192.0.2.1:80 or [2001:db8::1]:80", text)
	case reflect.TypeFor[netip.Prefix]():
		return fmt.Sprintf("%q is not a prefix, such as 192.0.2.0/24", text)
	}
	return err.Error()
}

// parseStrictly reads a query, of which every part is to be well-formed.
func parseStrictly(raw string) (map[string][]string, error) {
	values, err := url.ParseQuery(raw)
	return values, err
}
