package desired

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"fairlead/controlplane/model"
)

// fileNames are the names that fields have in the configuration file where they
// do not follow from the model's, by type and field. Fields with an empty name
// are not listed: they name the object, or are listed by themselves, or are no
// source's to declare.
var fileNames = map[string]string{
	"Service.Name": "", "Service.Ports": "port", "Service.Gone": "on_backend_gone", "Service.DisableMSS": "mss_clamp",
	"Pool.Name": "", "Pool.Backends": "", "Pool.Check": "health",
	"Backend.Address": "", "Backend.Port": "", "Backend.Serving": "",
	"VIP.Address": "", "VIP.AnswerARP": "arp", "VIP.AnswerPing": "ping",
	"Check.Exec": "exec.command", "GRPCCheck.UseTLS": "tls", "DNSCheck.RCode": "rcode",
	"SNAT.Address": "", "Tunnel.Source4": "source_ipv4", "Tunnel.Source6": "source_ipv6",
}

// fields lists the fields of two objects of one type that differ. Of a nil
// object every field is empty.
func fields[T any](before, after *T) []Field {
	var out []Field
	t := reflect.TypeFor[T]()
	list(&out, "", t, value(before), value(after))
	return out
}

// value is what a pointer points to; invalid when it is nil.
func value[T any](p *T) reflect.Value {
	if p == nil {
		return reflect.Value{}
	}
	return reflect.ValueOf(p).Elem()
}

func list(out *[]Field, prefix string, t reflect.Type, before, after reflect.Value) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, given := fileNames[t.Name()+"."+f.Name]
		switch {
		case given && name == "":
			continue
		case !given:
			name = snake(f.Name)
		}
		one(out, prefix+name, t.Name()+"."+f.Name, f.Type, at(before, i), at(after, i))
	}
}

// at is a field of a struct, invalid when the struct is.
func at(v reflect.Value, i int) reflect.Value {
	if !v.IsValid() {
		return v
	}
	return v.Field(i)
}

// one compares one field.
func one(out *[]Field, name, path string, t reflect.Type, before, after reflect.Value) {
	if t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
		list(out, name+".", t.Elem(), follow(before), follow(after))
		return
	}
	if nested(t) {
		list(out, name+".", t, before, after)
		return
	}
	b, a := textOf(path, before), textOf(path, after)
	if b != a && !absent(before, after) && !absent(after, before) {
		*out = append(*out, Field{name, b, a})
	}
}

// absent reports whether a part that one object does not have says nothing in
// the other.
func absent(there, other reflect.Value) bool { return !there.IsValid() && other.IsZero() }

func follow(v reflect.Value) reflect.Value {
	if !v.IsValid() || v.IsNil() {
		return reflect.Value{}
	}
	return v.Elem()
}

// nested reports whether a type is listed field by field.
func nested(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](),
		reflect.TypeFor[time.Time](), reflect.TypeFor[model.PortRange](), reflect.TypeFor[model.Affinity](), reflect.TypeFor[model.StatusRange]():
		return false
	}
	return t.Kind() == reflect.Struct
}

// textOf is text, but for fields that the file says the other way round.
func textOf(path string, v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	if path == "Service.DisableMSS" {
		return fmt.Sprint(!v.Bool())
	}
	return text(v)
}

// text writes a value as the configuration file does; the zero value of what
// may be left out is nothing.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case model.PortRange:
		switch {
		case x == model.AllPorts:
			return "0"
		case x.First == x.Last:
			return fmt.Sprint(x.First)
		}
		return fmt.Sprintf("%d-%d", x.First, x.Last)
	case model.StatusRange:
		if x.First == x.Last {
			return fmt.Sprint(x.First)
		}
		return fmt.Sprintf("%d-%d", x.First, x.Last)
	case model.Affinity:
		if !x.Enabled {
			return "none"
		}
		return "client_ip for " + x.Timeout.String()
	case netip.Addr:
		if !x.IsValid() {
			return ""
		}
		return x.String()
	case time.Duration:
		return x.String()
	case fmt.Stringer:
		return x.String()
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = text(v.Index(i))
		}
		return strings.Join(parts, ", ")
	}
	plain := fmt.Sprint(v.Interface())
	if strings.ContainsFunc(plain, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(plain)
	}
	return plain
}

// snake is a Go name in the way of the configuration file: DrainTimeout is
// drain_timeout, TCPSynSent tcp_syn_sent.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
