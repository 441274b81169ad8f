package model

import (
	"net/netip"
	"reflect"
	"testing"
)

// TestEqualSeesEveryField changes one field after the other, also those that
// will be added, and asserts that Equal sees it.
func TestEqualSeesEveryField(t *testing.T) {
	if !(&Service{}).Equal(&Service{}) {
		t.Error("two empty services are not equal")
	}
	for i := range reflect.TypeFor[Service]().NumField() {
		var s Service
		alter(t, reflect.ValueOf(&s).Elem().Field(i))
		if s.Equal(&Service{}) || (&Service{}).Equal(&s) {
			t.Errorf("services that differ in %s are equal", reflect.TypeFor[Service]().Field(i).Name)
		}
	}
	for i := range reflect.TypeFor[State]().NumField() {
		var s State
		alter(t, reflect.ValueOf(&s).Elem().Field(i))
		pools := reflect.TypeFor[State]().Field(i).Name == "Pools"
		if s.EqualButPools(&State{}) != pools {
			t.Errorf("states that differ in %s: equal but for pools is %v", reflect.TypeFor[State]().Field(i).Name, !pools)
		}
	}
}

// alter gives a field another value than the zero one.
func alter(t *testing.T, v reflect.Value) {
	t.Helper()
	if v.Type() == reflect.TypeFor[netip.Addr]() {
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Array:
		alter(t, v.Index(v.Len()-1))
	case reflect.Struct:
		alter(t, v.Field(v.NumField()-1))
	default:
		t.Fatalf("no other value of a %s is known", v.Type())
	}
}
