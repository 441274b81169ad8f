package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

// withoutNils gives a value whose nil slices and maps are empty ones, as the
// document promises: a list of nothing is [], not null. What it is given stays
// as it is; what has to differ is copied.
func withoutNils(value any) any {
	v := reflect.ValueOf(value)
	if !v.IsValid() {
		return value
	}
	if filled, changed := filled(v); changed {
		return filled.Interface()
	}
	return value
}

// filled gives v, or a copy of it without nils.
func filled(v reflect.Value) (_ reflect.Value, changed bool) {
	if encodesItself(v.Type()) {
		return v, false
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v, false
		}
		inner, changed := filled(v.Elem())
		if !changed {
			return v, false
		}
		out := reflect.New(inner.Type())
		out.Elem().Set(inner)
		if v.Kind() == reflect.Interface {
			return out.Elem(), true
		}
		return out, true
	case reflect.Struct:
		return filledStruct(v)
	case reflect.Slice:
		if v.IsNil() {
			return reflect.MakeSlice(v.Type(), 0, 0), true
		}
		return filledSlice(v)
	case reflect.Map:
		if v.IsNil() {
			return reflect.MakeMap(v.Type()), true
		}
		return filledMap(v)
	}
	return v, false
}

func filledStruct(v reflect.Value) (reflect.Value, bool) {
	out, changed := v, false
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || strings.Contains(f.Tag.Get("json"), ",omit") && v.Field(i).IsZero() {
			continue
		}
		inner, differs := filled(v.Field(i))
		if !differs {
			continue
		}
		if !changed {
			out, changed = reflect.New(v.Type()).Elem(), true
			out.Set(v)
		}
		out.Field(i).Set(inner)
	}
	return out, changed
}

func filledSlice(v reflect.Value) (reflect.Value, bool) {
	if !nested(v.Type().Elem()) {
		return v, false
	}
	out, changed := v, false
	for i := range v.Len() {
		inner, differs := filled(v.Index(i))
		if !differs {
			continue
		}
		if !changed {
			out, changed = reflect.MakeSlice(v.Type(), v.Len(), v.Len()), true
			reflect.Copy(out, v)
		}
		out.Index(i).Set(inner)
	}
	return out, changed
}

func filledMap(v reflect.Value) (reflect.Value, bool) {
	if !nested(v.Type().Elem()) {
		return v, false
	}
	out, changed := v, false
	for each := v.MapRange(); each.Next(); {
		inner, differs := filled(each.Value())
		if !differs {
			continue
		}
		if !changed {
			out, changed = reflect.MakeMap(v.Type()), true
			for copied := v.MapRange(); copied.Next(); {
				out.SetMapIndex(copied.Key(), copied.Value())
			}
		}
		out.SetMapIndex(each.Key(), inner)
	}
	return out, changed
}

// nested reports whether values of a type may have slices or maps in them.
func nested(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Struct, reflect.Slice, reflect.Map:
		return !encodesItself(t)
	}
	return false
}

// encodesItself reports whether a type has a JSON form of its own.
func encodesItself(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}
