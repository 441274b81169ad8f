package v1alpha1

import (
	"net/netip"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"
)

// TestDeepCopy compares copies of objects full of random values with the
// originals, and sees that they share no memory.
func TestDeepCopy(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(0.2).NumElements(0, 3).Funcs(
		// Managed fields are opaque; they are copied by the library.
		func(m *metav1.ManagedFieldsEntry, c randfill.Continue) { m.Manager = c.String(0) })
	for range 200 {
		for _, object := range []runtime.Object{
			&AddressPool{}, &AddressPoolList{}, &AddressReservation{}, &AddressReservationList{},
		} {
			fill.Fill(object)
			copied := object.DeepCopyObject()
			if !reflect.DeepEqual(object, copied) {
				t.Fatalf("a copy differs:\n%#v\n%#v", object, copied)
			}
			if path := shared(reflect.ValueOf(object).Elem(), reflect.ValueOf(copied).Elem(), "object"); path != "" {
				t.Fatalf("%T: a copy shares %s", object, path)
			}
		}
	}
}

func TestDeepCopyOfNil(t *testing.T) {
	for _, object := range []runtime.Object{
		(*AddressPool)(nil), (*AddressPoolList)(nil), (*AddressReservation)(nil), (*AddressReservationList)(nil),
	} {
		if copied := object.DeepCopyObject(); copied != nil {
			t.Errorf("a copy of nil is %#v", copied)
		}
	}
}

// shared is where two equal values share memory; "" if nowhere.
func shared(a, b reflect.Value, path string) string {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() {
			return ""
		}
		// The location of a time is never written.
		if a.Type().Elem().PkgPath() == "time" {
			return ""
		}
		if a.Pointer() == b.Pointer() {
			return path
		}
		return shared(a.Elem(), b.Elem(), path)
	case reflect.Slice:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			return path
		}
		for i := range a.Len() {
			if p := shared(a.Index(i), b.Index(i), path+"[]"); p != "" {
				return p
			}
		}
	case reflect.Map:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			return path
		}
	case reflect.Struct:
		for i := range a.NumField() {
			if p := shared(a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name); p != "" {
				return p
			}
		}
	}
	return ""
}

func TestReservationNames(t *testing.T) {
	for address, name := range map[string]string{
		"192.0.2.1":               "192.0.2.1",
		"0.0.0.0":                 "0.0.0.0",
		"2001:db8::1":             "2001-0db8-0000-0000-0000-0000-0000-0001",
		"::":                      "0000-0000-0000-0000-0000-0000-0000-0000",
		"2001:db8:1:2:3:4:5:ffff": "2001-0db8-0001-0002-0003-0004-0005-ffff",
		"2001:db8:0:0:1:0:0:1":    "2001-0db8-0000-0000-0001-0000-0000-0001",
	} {
		a := netip.MustParseAddr(address)
		if got := ReservationName(a); got != name {
			t.Errorf("the reservation of %s is called %q, not %q", address, got, name)
		}
		if got, err := ReservationAddress(name); err != nil || got != a {
			t.Errorf("%q is the reservation of %s (%v), not of %s", name, got, err, address)
		}
	}
	for name, want := range map[string]string{
		"":             `"" is not the name of an address reservation`,
		"web":          `"web" is not the name of an address reservation`,
		"2001-db8--1":  `"2001-db8--1" is not the name of an address reservation`,
		"2001:db8::1":  `"2001:db8::1" is not the name of an address reservation`,
		"192.0.2.01":   `"192.0.2.01" is not the name of an address reservation`,
		"192.0.2.1/32": `"192.0.2.1/32" is not the name of an address reservation`,
		"2001-0DB8-0000-0000-0000-0000-0000-0001": `"2001-0DB8-0000-0000-0000-0000-0000-0001" is not the name of an address reservation`,
	} {
		if _, err := ReservationAddress(name); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", name, err, want)
		}
	}
}
