package configs

import (
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
)

// API is where and to whom the node's admin API answers: the [api] table.
type API struct {
	Socket    string   // absolute path; empty: none
	Group     string   // that may open the socket, by name or number; empty: the node's own
	Operators []string // users and groups that may change what is in force
	Readers   []string // users and groups that may look; empty: all that can open the socket

	Listen                   string // address and port on TCP; empty: none
	TLSCert, TLSKey          string // PEM files of the node's own
	ClientCA                 string // PEM file of the authorities that sign clients' certificates
	TLSOperators, TLSReaders []string
}

// DefaultSocket is where the admin API is unless the file says otherwise.
const DefaultSocket = "/run/fairlead/fairlead.sock"

// maxSocketPath is the longest path that the kernel takes for a Unix socket.
const maxSocketPath = 107

// certificateNames are the kinds of names in a certificate that a list may use.
var certificateNames = []string{"cn", "ou", "dns", "email", "uri", "ip"}

func (r *reader) api(t *table, a *API) {
	if a.Socket = t.text("socket", a.Socket); a.Socket != "" {
		if !plainPath(a.Socket) {
			t.refuse("socket", "%q is not a plain absolute path", a.Socket)
		} else if len(a.Socket) > maxSocketPath {
			t.refuse("socket", "the path has %d bytes; a socket's may have %d", len(a.Socket), maxSocketPath)
		}
	}
	a.Group = t.text("group", "")
	if badAccount(a.Group) {
		t.refuse("group", "%q is not the name of a group", a.Group)
	}
	a.Operators = t.accounts("operators")
	a.Readers = t.accounts("readers")
	r.apiOnTCP(t, a)
	t.finish()
}

// apiOnTCP reads the keys of the TCP listener. There is none without mutual
// TLS, and none that nobody could use.
func (r *reader) apiOnTCP(t *table, a *API) {
	a.Listen = t.text("listen", "")
	files := map[string]*string{"tls_cert": &a.TLSCert, "tls_key": &a.TLSKey, "client_ca": &a.ClientCA}
	a.TLSOperators, a.TLSReaders = t.holders("tls_operators"), t.holders("tls_readers")
	keys := []string{"tls_cert", "tls_key", "client_ca"}
	for _, key := range keys {
		*files[key] = t.text(key, "")
		if *files[key] != "" && !plainPath(*files[key]) {
			t.refuse(key, "%q is not a plain absolute path", *files[key])
		}
	}
	if a.Listen == "" {
		for _, key := range keys {
			if *files[key] != "" {
				t.refuse(key, "is for listen, which is not given")
			}
		}
		for key, list := range map[string][]string{"tls_operators": a.TLSOperators, "tls_readers": a.TLSReaders} {
			if len(list) > 0 {
				t.refuse(key, "is for listen, which is not given")
			}
		}
		return
	}
	if at, err := netip.ParseAddrPort(a.Listen); err != nil || at.Port() == 0 {
		t.refuse("listen", `%q is not an address with a port, such as "192.0.2.1:8443" or "[2001:db8::1]:8443"`, a.Listen)
	}
	for _, key := range keys {
		if *files[key] == "" {
			t.refuse("listen", "needs %s: the admin API is on TCP only where both ends show certificates", key)
		}
	}
	if len(a.TLSOperators)+len(a.TLSReaders) == 0 && !t.bad {
		t.refuse("listen", "nobody could use it: name certificates in tls_operators or tls_readers")
	}
}

func plainPath(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && !strings.ContainsFunc(p, unicode.IsControl)
}

// accounts reads a list of users and groups.
func (t *table) accounts(key string) []string {
	list := t.texts(key)
	for i, name := range list {
		kind, rest, both := strings.Cut(name, ":")
		if both && kind != "user" && kind != "group" || both && rest == "" || !both && name == "" || badAccount(rest) || badAccount(kind) {
			t.refuseElement(key, i, `%q names nobody: write the name of a user or group, "user:NAME" or "group:NAME"`, name)
		}
	}
	return list
}

// badAccount reports what is not the name of a user or group. The empty name
// is for its callers to judge.
func badAccount(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r == 0x7f })
}

// holders reads a list of what certificates say of their holders.
func (t *table) holders(key string) []string {
	list := t.texts(key)
	for i, name := range list {
		if kind, rest, _ := strings.Cut(name, ":"); rest == "" || !slices.Contains(certificateNames, kind) {
			t.refuseElement(key, i, `%q names nobody: write "cn:", "ou:", "dns:", "email:", "uri:" or "ip:" and what the certificate has there`, name)
		}
	}
	return list
}
