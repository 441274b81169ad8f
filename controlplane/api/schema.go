package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

// schemas makes schemas of Go types. Structs become components, named after
// their types.
type schemas struct {
	components openapi3.Schemas
	types      map[string]reflect.Type
}

// of is the schema of a type that is part of requests, or of answers: in
// requests, what is required is tagged so; in answers all is there that is not
// left out when empty.
func (s *schemas) of(t reflect.Type, tag reflect.StructTag, request bool) *openapi3.SchemaRef {
	if t.Kind() == reflect.Pointer {
		inner := s.of(t.Elem(), tag, request)
		if inner.Ref != "" {
			return openapi3.NewSchemaRef("", &openapi3.Schema{Nullable: true, AllOf: openapi3.SchemaRefs{inner}, Description: tag.Get("doc")})
		}
		inner.Value.Nullable = true
		return inner
	}
	if ref := s.leaf(t); ref != nil {
		describe(ref, t, tag)
		return openapi3.NewSchemaRef("", ref)
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.object(t, request)
	case reflect.Slice:
		array := openapi3.NewArraySchema()
		array.Items, array.Description = s.of(t.Elem(), withoutDoc(tag), request), tag.Get("doc")
		return openapi3.NewSchemaRef("", array)
	case reflect.Map:
		object := openapi3.NewObjectSchema()
		object.AdditionalProperties.Schema, object.Description = s.of(t.Elem(), "", request), tag.Get("doc")
		return openapi3.NewSchemaRef("", object)
	case reflect.Interface:
		return openapi3.NewSchemaRef("", &openapi3.Schema{Description: tag.Get("doc"), Nullable: true})
	}
	panic("api: no schema for " + t.String())
}

// leaf is the schema of a type without parts, nil of one that has any.
func (s *schemas) leaf(t reflect.Type) *openapi3.Schema {
	made := reflect.New(t)
	_, isText := made.Interface().(encoding.TextMarshaler)
	_, ownJSON := made.Interface().(json.Marshaler)
	switch {
	case t == reflect.TypeFor[time.Time]():
		return openapi3.NewDateTimeSchema()
	case isText:
		return openapi3.NewStringSchema()
	case ownJSON:
		return &openapi3.Schema{Nullable: true}
	}
	switch t.Kind() {
	case reflect.String:
		return openapi3.NewStringSchema()
	case reflect.Bool:
		return openapi3.NewBoolSchema()
	case reflect.Float64, reflect.Float32:
		return openapi3.NewFloat64Schema()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return openapi3.NewIntegerSchema()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return openapi3.NewIntegerSchema().WithMin(0)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return openapi3.NewBytesSchema()
		}
	}
	return nil
}

func withoutDoc(tag reflect.StructTag) reflect.StructTag {
	var kept []string
	for _, key := range []string{"enum", "minimum", "maximum"} {
		if text, has := tag.Lookup(key); has {
			kept = append(kept, fmt.Sprintf("%s:%q", key, text))
		}
	}
	return reflect.StructTag(strings.Join(kept, " "))
}

// describe adds what the tags of a field say.
func describe(schema *openapi3.Schema, t reflect.Type, tag reflect.StructTag) {
	schema.Description = tag.Get("doc")
	if words, has := tag.Lookup("enum"); has {
		for word := range strings.SplitSeq(words, ",") {
			schema.Enum = append(schema.Enum, word)
		}
	}
	if t != reflect.TypeFor[Duration]() {
		if least := bound(tag, "minimum", t); least != nil {
			schema.Min = least
		}
		schema.Max = bound(tag, "maximum", t)
	} else {
		schema.Format = "duration-go"
	}
	if text, has := tag.Lookup("default"); has {
		schema.Default = defaultOf(t, text)
	}
}

func defaultOf(t reflect.Type, text string) any {
	if t != reflect.TypeFor[Duration]() {
		if n, err := strconv.ParseFloat(text, 64); err == nil && t.Kind() != reflect.String {
			return n
		}
		if t.Kind() == reflect.Bool {
			return text == "true"
		}
	}
	return text
}

// object is a reference to the component of a struct, or the schema itself of
// one that has no name.
func (s *schemas) object(t reflect.Type, request bool) *openapi3.SchemaRef {
	if t.Name() == "" {
		schema := openapi3.NewObjectSchema()
		s.fill(schema, t, request)
		return openapi3.NewSchemaRef("", schema)
	}
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if request {
		name = strings.TrimSuffix(name, "Request") + "Request"
	}
	if have, taken := s.types[name]; taken && have != t {
		pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	ref := openapi3.NewSchemaRef("#/components/schemas/"+name, nil)
	if _, taken := s.types[name]; taken {
		ref.Value = s.components[name].Value
		return ref
	}
	schema := openapi3.NewObjectSchema()
	s.types[name], s.components[name] = t, openapi3.NewSchemaRef("", schema)
	ref.Value = schema
	s.fill(schema, t, request)
	return ref
}

// fill gives an object its properties, and no others.
func (s *schemas) fill(schema *openapi3.Schema, t reflect.Type, request bool) {
	closed := false
	schema.AdditionalProperties.Has = &closed
	schema.Properties = make(openapi3.Schemas)
	for _, f := range jsonFields(t) {
		schema.Properties[f.name] = s.of(f.of, f.tag, request)
		if request && f.tag.Get("required") == "true" || !request && !f.optional {
			schema.Required = append(schema.Required, f.name)
		}
	}
}
