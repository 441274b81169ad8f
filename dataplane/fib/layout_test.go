package fib

import (
	"reflect"
	"testing"
	"unsafe"
)

// TestLayout pins every record: its size, the offset of each field, that there
// is no pointer in it and no hole. An image is exchanged between processes; a
// change here needs another layoutVersion.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		record  any
		size    uintptr
		offsets []uintptr
	}{
		{header{}, 296, []uintptr{0, 8, 16, 24, 28, 32, 288, 292}},
		{Settings{}, 72, []uintptr{0, 16, 32, 48, 50, 51, 52, 56, 60, 64, 68}},
		{Local{}, 24, []uintptr{0, 16, 18, 19, 20}},
		{Service{}, 44, []uintptr{0, 4, 8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 24, 28, 32, 36}},
		{PortMatch{}, 12, []uintptr{0, 2, 3, 4, 6, 8}},
		{Pool{}, 48, []uintptr{0, 4, 8, 12, 16, 24, 32, 36, 40, 44}},
		{Backend{}, 48, []uintptr{0, 16, 20, 24, 28, 32, 34, 35, 36, 40}},
		{NextHop{}, 20, []uintptr{0, 6, 12, 14, 15, 16}},
		{Interface{}, 28, []uintptr{0, 6, 8, 12, 16, 20}},
		{SNAT{}, 24, []uintptr{0, 16, 18, 20, 22}},
		{SourceRange{}, 24, []uintptr{0, 16, 20}},
		{Timeouts{}, 32, []uintptr{0, 4, 8, 12, 16, 20, 24, 28}},
		{NameRef{}, 8, []uintptr{0, 4}},
	} {
		typ := reflect.TypeOf(c.record)
		t.Run(typ.Name(), func(t *testing.T) {
			if typ.Size() != c.size {
				t.Errorf("size is %d, want %d", typ.Size(), c.size)
			}
			if typ.NumField() != len(c.offsets) {
				t.Fatalf("it has %d fields, want %d", typ.NumField(), len(c.offsets))
			}
			end := uintptr(0)
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Offset != c.offsets[i] {
					t.Errorf("%s is at %d, want %d", f.Name, f.Offset, c.offsets[i])
				}
				if f.Offset != end {
					t.Errorf("there is a hole of %d bytes before %s", f.Offset-end, f.Name)
				}
				end = f.Offset + f.Type.Size()
				if path, bad := pointerIn(f.Type); bad {
					t.Errorf("%s%s holds a pointer", f.Name, path)
				}
			}
			if end != typ.Size() {
				t.Errorf("there is a hole of %d bytes at the end", typ.Size()-end)
			}
		})
	}
}

// pointerIn finds anything in a type that does not mean the same in another
// process.
func pointerIn(t reflect.Type) (path string, bad bool) {
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "", false
	case reflect.Array:
		path, bad = pointerIn(t.Elem())
		return "[]" + path, bad
	case reflect.Struct:
		for i := range t.NumField() {
			if path, bad := pointerIn(t.Field(i).Type); bad {
				return "." + t.Field(i).Name + path, true
			}
		}
		return "", false
	}
	return "", true
}

func TestLocalsFitCacheLines(t *testing.T) {
	if n := 64 / unsafe.Sizeof(Local{}); n < 2 {
		t.Errorf("a cache line holds %d locals; a probe should stay in one line", n)
	}
}

func TestIDs(t *testing.T) {
	for _, c := range []struct {
		slot  uint32
		epoch uint8
	}{{0, 1}, {1, 255}, {1<<SlotBits - 1, 128}} {
		if id := MakeID(c.slot, c.epoch); id.Slot() != c.slot || id.Epoch() != c.epoch || id == 0 {
			t.Errorf("slot %d in epoch %d is ID %#x, slot %d in epoch %d", c.slot, c.epoch, uint32(id), id.Slot(), id.Epoch())
		}
	}
}

func TestMethodNames(t *testing.T) {
	for m, want := range map[Method]string{MethodNAT: "nat", MethodIPIP: "ipip", MethodGUE: "gue", MethodL2: "l2", 0: "unknown", 5: "unknown"} {
		if m.String() != want {
			t.Errorf("method %d is %q, want %q", m, m.String(), want)
		}
	}
}
