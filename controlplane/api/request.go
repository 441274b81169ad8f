package api

import (
	"encoding"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time that is written as Go and the configuration
// file write it: "500ms", "5m", "1h30m".
type Duration time.Duration

// String writes the duration without zero minutes and seconds.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if rest, cut := strings.CutSuffix(s, "m0s"); cut {
		s = rest + "m"
	}
	if rest, cut := strings.CutSuffix(s, "h0m"); cut {
		s = rest + "h"
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is not a duration; write it as "500ms", "30s", "5m" or "1h30m"`, text)
	}
	*d = Duration(v)
	return nil
}

const (
	inPath  = "path"
	inQuery = "query"
)

// param is one parameter of the path or of the query.
type param struct {
	name, in string
	index    []int        // of the field, through embedded structs
	many     bool         // may be given several times
	of       reflect.Type // of one value
	tag      reflect.StructTag
}

// bodyField is where the body goes.
type bodyField struct {
	index   int
	content string
	of      reflect.Type
	tag     reflect.StructTag
}

// fieldsOf reads the tags of a request's type.
func fieldsOf(in reflect.Type) (params []param, body *bodyField) {
	if in.Kind() != reflect.Struct {
		panic("api: a request that is no struct: " + in.String())
	}
	for i := range in.NumField() {
		f := in.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			shared, _ := fieldsOf(f.Type) // parameters that several requests have
			for _, p := range shared {
				p.index = append([]int{i}, p.index...)
				params = append(params, p)
			}
			continue
		}
		p := param{index: []int{i}, tag: f.Tag, of: f.Type}
		var is bool
		if p.name, is = f.Tag.Lookup(inPath); is {
			p.in = inPath
		} else if p.name, is = f.Tag.Lookup(inQuery); is {
			p.in = inQuery
		}
		content, isBody := f.Tag.Lookup("body")
		switch {
		case isBody && body == nil:
			body = &bodyField{index: i, content: content, of: f.Type, tag: f.Tag}
			if content != typeJSON && f.Type != reflect.TypeFor[[]byte]() {
				panic("api: a body that is not JSON goes into a []byte: " + in.String() + "." + f.Name)
			}
			continue
		case !is:
			panic("api: a field that is neither parameter nor body: " + in.String() + "." + f.Name)
		}
		if p.of.Kind() == reflect.Slice {
			p.many, p.of = true, p.of.Elem()
		}
		if p.of.Kind() == reflect.Pointer {
			p.of = p.of.Elem()
		}
		params = append(params, p)
	}
	return params, body
}

// decode reads a request, and refuses what does not belong there.
func (t *route) decode(w http.ResponseWriter, r *http.Request, in reflect.Value) error {
	query, err := parseQuery(r)
	if err != nil {
		return err
	}
	for i := range t.params {
		p := &t.params[i]
		given := query[p.name]
		if p.in == inPath {
			given = []string{r.PathValue(p.name)}
		}
		delete(query, p.name)
		if err := p.read(given, in.FieldByIndex(p.index)); err != nil {
			return err
		}
	}
	for name := range query {
		return Errorf(BadRequest, "unknown parameter %q; %s", name, t.known())
	}
	return t.decodeBody(w, r, in)
}

// parseQuery reads the query strictly.
func parseQuery(r *http.Request) (map[string][]string, error) {
	query := make(map[string][]string)
	if r.URL.RawQuery == "" {
		return query, nil
	}
	u := *r.URL
	values, err := parseStrictly(u.RawQuery)
	if err != nil {
		return nil, Errorf(BadRequest, "the query %q is malformed", u.RawQuery)
	}
	return values, nil
}

// known says which parameters there are.
func (t *route) known() string {
	var names []string
	for _, p := range t.params {
		if p.in == inQuery {
			names = append(names, p.name)
		}
	}
	if len(names) == 0 {
		return "there are none here"
	}
	return "there are " + strings.Join(names, ", ")
}

// read gives a field the value of its parameter.
func (p *param) read(given []string, field reflect.Value) error {
	if len(given) == 0 {
		if p.tag.Get("required") == "true" {
			return Errorf(BadRequest, "parameter %q is missing", p.name)
		}
		fallback, has := p.tag.Lookup("default")
		if !has {
			return nil
		}
		given = []string{fallback}
	}
	if len(given) > 1 && !p.many {
		return Errorf(BadRequest, "parameter %q is given %d times", p.name, len(given))
	}
	for _, text := range given {
		v := reflect.New(p.of)
		if wrong := parseValue(text, v.Elem()); wrong != "" {
			return Errorf(BadRequest, "parameter %q: %s", p.name, wrong)
		}
		if wrong := outOfBounds(v.Elem(), p.tag); wrong != "" {
			return Errorf(BadRequest, "parameter %q: %s", p.name, wrong)
		}
		switch {
		case p.many:
			field.Set(reflect.Append(field, v.Elem()))
		case field.Kind() == reflect.Pointer:
			field.Set(v)
		default:
			field.Set(v.Elem())
		}
	}
	return nil
}

// parseValue reads a value from text; wrong says what is wrong with it.
func parseValue(text string, v reflect.Value) (wrong string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return sayWrong(text, v.Type(), err)
		}
		return ""
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var n int64
		n, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var n uint64
		n, err = strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
	case reflect.Float64:
		var n float64
		n, err = strconv.ParseFloat(text, 64)
		v.SetFloat(n)
	default:
		panic("api: no parameter can be a " + v.Type().String())
	}
	if err != nil {
		return fmt.Sprintf("%q is not a number that fits here", text)
	}
	return ""
}

// outOfBounds says how a value breaks the bounds that its tags give.
func outOfBounds(v reflect.Value, tag reflect.StructTag) string {
	if words, has := tag.Lookup("enum"); has {
		list := strings.Split(words, ",")
		if text := fmt.Sprint(v.Interface()); !slices.Contains(list, text) {
			return fmt.Sprintf("%q is none of %s", text, strings.Join(list, ", "))
		}
	}
	least, most := bound(tag, "minimum", v.Type()), bound(tag, "maximum", v.Type())
	n, isNumber := number(v)
	if !isNumber || (least == nil || n >= *least) && (most == nil || n <= *most) {
		return ""
	}
	said := fmt.Sprint(v.Interface())
	switch {
	case least != nil && most != nil:
		return fmt.Sprintf("%s is out of range; it must be %s to %s", said, tag.Get("minimum"), tag.Get("maximum"))
	case least != nil:
		return fmt.Sprintf("%s is out of range; it must be at least %s", said, tag.Get("minimum"))
	}
	return fmt.Sprintf("%s is out of range; it must be at most %s", said, tag.Get("maximum"))
}

// bound reads a bound of a number, or of a duration in its own spelling.
func bound(tag reflect.StructTag, key string, of reflect.Type) *float64 {
	text, has := tag.Lookup(key)
	if !has {
		return nil
	}
	var n float64
	if of == reflect.TypeFor[Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil {
			panic("api: " + key + " " + text)
		}
		n = float64(d)
	} else {
		var err error
		if n, err = strconv.ParseFloat(text, 64); err != nil {
			panic("api: " + key + " " + text)
		}
	}
	return &n
}

func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// decodeBody reads the body, of which there is exactly as much as the endpoint
// takes: one JSON value, one document of another type, or nothing.
func (t *route) decodeBody(w http.ResponseWriter, r *http.Request, in reflect.Value) error {
	body := http.MaxBytesReader(w, r.Body, t.MaxBody)
	if t.body == nil {
		if n, err := io.ReadFull(body, make([]byte, 1)); n > 0 || (err != nil && err != io.EOF) {
			return Errorf(BadRequest, "%s %s takes no body", t.Method, t.Path)
		}
		return readAll(w)
	}
	content, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || content != t.body.content {
		return Errorf(UnsupportedMediaType, "the body is to be %s, not %q", t.body.content, r.Header.Get("Content-Type"))
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return bodyError(err)
	}
	if err := readAll(w); err != nil {
		return err
	}
	if t.body.content != typeJSON {
		in.Field(t.body.index).SetBytes(data)
		return nil
	}
	return decodeJSON(data, in.Field(t.body.index))
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	if e := asError(err); e.Code == TooLarge {
		return e
	}
	return Errorf(BadRequest, "the body could not be read: %v", err)
}

// readAll lifts the time limit for reading, which would end a long answer.
func readAll(w http.ResponseWriter) error {
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil && !isUnsupported(err) {
		return err
	}
	return nil
}
